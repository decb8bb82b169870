# Counting an answer by its version: one line in every method that judges keys.

from libc.stdint cimport int64_t, uint8_t

from verifier._judge cimport VALID, answer_t, request_t
from verifier._lookup cimport AT_FLAGS, AT_ORDINAL, WATCH_FLAG, load16, load32
from verifier._usage cimport usage_count, usage_t, usage_watch


cdef inline void count_answer(usage_t* usage, const request_t* request, const answer_t* answer,
                              int64_t now_s) noexcept nogil:
    # Nothing for MALFORMED and UNKNOWN, which no version answers for, nothing for probes, and nothing at all (NULL)
    # where nobody is reported to. The record has just been read, so it costs nothing to read it again.
    if usage == NULL or answer.record == NULL or request.probe:
        return
    usage_count(usage, load32(answer.record + AT_ORDINAL), answer.verdict != VALID)
    if load16(answer.record + AT_FLAGS) & WATCH_FLAG:
        usage_watch(usage, load32(answer.record + AT_ORDINAL), answer.verdict,
                    <const uint8_t*>request.address if request.has_address else NULL, now_s)
