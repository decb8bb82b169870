# Records of a keyring: what one may look like (docs/keyring-format.md, "Record").

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef enum:
    RECORD_SOUND = 0
    RECORD_LENGTH = 1
    RECORD_FLAGS = 2
    RECORD_FIELDS = 3
    RECORD_ANSWER = 4
    RECORD_RULES = 5

# Checks a whole record, answer part included; returns RECORD_SOUND or what is wrong. `room` is its exact length.
cdef int check_record(const uint8_t* record, size_t room, bint in_delta) noexcept nogil
