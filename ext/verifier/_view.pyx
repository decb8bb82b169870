"""One publication as the hot path sees it, and verification against it in-process.

A View is immutable but for the time at which its revision was last confirmed to be the newest. It keeps its Maps
alive; whoever hands its `view_t` to a loop keeps the View alive until the loop has let go of it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

from verifier._answer cimport Answer
from verifier._counting cimport count_answer
from verifier._judge cimport (
    GROUP, SCOPES_MAX, answer_t, begin, finish, judge, prefetch, request_t,
)
from verifier._lookup cimport (
    ABSENT_FLAG, AT_FLAGS, AT_L1, AT_L2, AT_RULES, FINGERPRINT_BITS, KEY_BYTES, KNOWN_FLAGS, RECORD_FIXED_BYTES,
    RULE_BYTES, RULES_FLAG, find, first_slot, load16, load64, verifier_be64,
)
from verifier._tag cimport pepper_init
from verifier._wire cimport HEAD_BYTES_MAX, WIRE_OK, check_scope, parse_address, write_head
from verifier.atomics cimport load_i64, store_i64

from verifier.errors import InvalidInput, Unavailable, UnsoundPublication

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    BLOCK_HEADER_BYTES = 48

    SOUND = 0
    BAD_OFFSET = 1
    BAD_FINGERPRINT = 2
    UNREACHABLE = 3
    BAD_RECORD = 4
    UNKNOWN_FLAG = 5
    BAD_COUNT = 6
    FULL = 7

cdef dict FAULTS = {
    BAD_OFFSET: "an index slot points outside the file",
    BAD_FINGERPRINT: "an index slot points to another key",
    UNREACHABLE: "a key cannot be reached through the index",
    BAD_RECORD: "a record is damaged",
    UNKNOWN_FLAG: "a record has a flag that this build does not know",
    BAD_COUNT: "the index does not hold as many records as its header says",
    FULL: "the index has no empty slot",
}


cdef int64_t monotonic_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef int64_t wall_s() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec


# --- Checks at load --------------------------------------------------------------------------------------------------

cdef int check_record(const uint8_t* record, uint64_t room, bint in_delta) noexcept nogil:
    cdef uint64_t length = RECORD_FIXED_BYTES
    cdef int flags, rules, i
    cdef const uint8_t* rule
    if room < length:
        return BAD_OFFSET
    flags = load16(record + AT_FLAGS)
    if flags & ~KNOWN_FLAGS or (flags & ABSENT_FLAG and not in_delta):
        return UNKNOWN_FLAG
    rules = record[AT_RULES]
    length += load16(record + AT_L2) + rules * RULE_BYTES
    if room < length:
        return BAD_OFFSET
    if load16(record + AT_L1) > load16(record + AT_L2) or (flags & RULES_FLAG != 0) != (rules != 0):
        return BAD_RECORD
    for i in range(rules):
        rule = record + RECORD_FIXED_BYTES + load16(record + AT_L2) + i * RULE_BYTES
        if rule[0] > 128:
            return BAD_RECORD
    return SOUND


cdef int check_keyring(const keyring_t* keyring, uint64_t size, uint64_t records, bint in_delta) noexcept nogil:
    """Check every slot and the record that it points to, so that no lookup can fail, miss or leave the map."""
    cdef uint64_t at, slot, offset, home, seen = 0
    cdef int64_t last_empty = -1
    cdef const uint8_t* key
    cdef int fault
    for at in range(keyring.slot_count):
        slot = keyring.slots[at]
        if slot == 0:
            last_empty = <int64_t>at
            continue
        seen += 1
        offset = slot >> FINGERPRINT_BITS
        if offset > size or size - offset < KEY_BYTES:
            return BAD_OFFSET
        key = keyring.data + offset
        if (verifier_be64(load64(key)) ^ slot) & ((1 << FINGERPRINT_BITS) - 1):
            return BAD_FINGERPRINT
        fault = check_record(key + KEY_BYTES, size - offset - KEY_BYTES, in_delta)
        if fault != SOUND:
            return fault
        # Reachable: no empty slot lies between where the search begins and here. Keys that wrapped round the end of
        # the table are few; for them the search itself is the check, once the table is known to have an empty slot.
        home = first_slot(keyring, key)
        if home <= at and <int64_t>home <= last_empty:
            return UNREACHABLE
    if last_empty < 0:
        return FULL
    if seen != records:
        return BAD_COUNT
    for at in range(keyring.slot_count):
        if keyring.slots[at] == 0:
            break
        key = keyring.data + (keyring.slots[at] >> FINGERPRINT_BITS)
        if find(keyring, key) != key + KEY_BYTES:
            return UNREACHABLE
    return SOUND


@cython.final
cdef class View:
    """One publication, ready to be served.

    Args:
        base: the base keyring's bytes.
        base_slots: offset and length in bytes of its slots block, as in the manifest.
        switches: offset and length of the client switches' block - in the delta if there is one, else in the base.
        peppers: the secrets, in the order of the keyring's header.
        prefixes: pairs of prefix and mode, NATIVE or MIXED.
        accepts_foreign: look up tokens of no known prefix.
        revision: the publication's number.
        delta, delta_slots: the delta keyring, if any.
        max_staleness_ms: answer UNAVAILABLE when the revision was not confirmed for longer; 0 = no limit.

    Raises:
        UnsoundPublication: FORMAT or FEATURE; call `check` before serving.
    """

    def __init__(self, Map base not None, base_slots, switches, peppers, prefixes, bint accepts_foreign,
                 int64_t revision, Map delta=None, delta_slots=None, int64_t max_staleness_ms=0):
        cdef bytes secret, text
        if self.base is not None:
            raise RuntimeError("a view is set up once")
        self.base = base
        self.delta = delta
        self._attach(&self.view.base, base, base_slots)
        if delta is not None:
            self._attach(&self.view.delta, delta, delta_slots)
        self._attach_switches(base if delta is None else delta, switches)
        if not 1 <= len(peppers) <= PEPPERS_MAX or len(prefixes) > PREFIXES_MAX:
            raise UnsoundPublication("too many peppers or prefixes, or no pepper", code="LIMIT")
        for secret in peppers:
            pepper_init(&self.view.peppers[self.view.pepper_count], <const uint8_t*>PyBytes_AS_STRING(secret),
                        len(secret))
            self.view.pepper_count += 1
        for name, mode in prefixes:
            text = name.encode("ascii")
            if not 1 <= len(text) <= PREFIX_BYTES_MAX or mode not in ("NATIVE", "MIXED"):
                raise UnsoundPublication(f"prefix {name!r} or its mode {mode!r} is not known", code="FORMAT")
            memcpy(self.view.prefixes[self.view.prefix_count].text, PyBytes_AS_STRING(text), len(text))
            self.view.prefixes[self.view.prefix_count].length = len(text)
            self.view.prefixes[self.view.prefix_count].mode = MIXED if mode == "MIXED" else NATIVE
            self.view.prefix_count += 1
        self.view.accepts_foreign = accepts_foreign
        self.view.revision = revision
        self.view.max_staleness_ms = max_staleness_ms
        self.confirm()

    cdef int _attach(self, keyring_t* keyring, Map source, block) except -1:
        begin, slots, _ = block_of(source, block, b"VKSLOTS1", 8)
        keyring.data = source.data
        keyring.slots = <const uint64_t*>(source.data + <uint64_t>begin)
        keyring.slot_count = slots
        return 0

    cdef int _attach_switches(self, Map source, block) except -1:
        begin, bits, _ = block_of(source, block, b"VKSWTCH1", 0.125)
        self.view.switches = source.data + <uint64_t>begin
        self.view.switch_count = bits
        return 0

    def check(self, *, bint base=True) -> int:
        """Check every slot and record, with the GIL released; return the number of records that were checked.

        Args:
            base: check the base keyring too; False when it was checked before, as part of another View.

        Raises:
            UnsoundPublication: FORMAT, or FEATURE for a flag that this build does not know.
        """
        total = self._check("base", self.base, False) if base else 0
        if self.delta is not None:
            total += self._check("delta", self.delta, True)
        return total

    def _check(self, str name, Map source, bint in_delta) -> int:
        cdef keyring_t* keyring = &self.view.delta if in_delta else &self.view.base
        cdef const uint8_t* header = <const uint8_t*>keyring.slots - BLOCK_HEADER_BYTES
        cdef uint64_t records = load64(header + 16)
        cdef int fault
        with nogil:
            fault = check_keyring(keyring, source.size, records, in_delta)
        if fault != SOUND:
            raise UnsoundPublication(f"{name} keyring: {FAULTS[fault]}",
                                     code="FEATURE" if fault == UNKNOWN_FLAG else "FORMAT")
        return records

    @property
    def revision(self) -> int:
        """The publication's number."""
        return self.view.revision

    @property
    def staleness_ms(self) -> int:
        """Milliseconds since the revision was last confirmed to be the newest."""
        return max(0, monotonic_ms() - load_i64(&self.view.confirmed_ms))

    def confirm(self) -> None:
        """Note that the revision is the newest, as of now."""
        store_i64(&self.view.confirmed_ms, monotonic_ms())

    def count_into(self, Usage usage not None) -> None:
        """Count what `verify` and `verify_batch` answer, by version; before the first call."""
        self.usage = usage             # held, so that the pointer stays good
        self.counts = usage.usage

    def verify(self, token, required_scopes=(), client_address=None, *, bint probe=False) -> Answer:
        """Judge one token, in-process.

        Args:
            token: the API key as the caller presented it, text or bytes.
            required_scopes: scopes that it must hold, all of them; at most 64.
            client_address: the caller's IPv4 or IPv6 address as text, or None.
            probe: judge, but count nothing.

        Raises:
            InvalidInput: a scope or the address is not well formed.
            Unavailable: the revision was not confirmed for longer than `max_staleness_ms`.
        """
        cdef request_t request
        cdef answer_t answer
        cdef int64_t now_s = wall_s()
        cdef int64_t staleness_ms = staleness_of(&self.view)
        required_scopes = held(required_scopes)
        set_key(&request, token)
        set_conditions(&request, required_scopes, client_address)
        request.probe = probe
        judge(&self.view, &request, now_s, &answer)
        count_answer(self.counts, &request, &answer, now_s)
        return answer_of(&answer, self.view.revision, staleness_ms)

    def verify_at(self, token, int64_t second_s, required_scopes=(), client_address=None) -> Answer:
        """Judge one token as `verify` does, but at a given second since 1970; nothing is counted.

        Arguments and errors as for `verify`.
        """
        cdef request_t request
        cdef answer_t answer
        cdef int64_t staleness_ms = staleness_of(&self.view)
        required_scopes = held(required_scopes)
        set_key(&request, token)
        set_conditions(&request, required_scopes, client_address)
        request.probe = True
        judge(&self.view, &request, second_s, &answer)
        return answer_of(&answer, self.view.revision, staleness_ms)

    def verify_batch(self, tokens, required_scopes=(), client_address=None, *, bint probe=False) -> list:
        """Judge many tokens at the same second, overlapping their lookups.

        Arguments and errors as for `verify`; `required_scopes` and `client_address` hold for all.
        """
        cdef request_t requests[GROUP]
        cdef answer_t answers[GROUP]
        cdef int64_t now_s = wall_s()
        cdef int64_t staleness_ms = staleness_of(&self.view)
        cdef Py_ssize_t first, count
        cdef int filled, i
        cdef list result = []
        if type(tokens) is not list and type(tokens) is not tuple:
            tokens = list(tokens)      # so that something holds each token while a group is judged
        count = len(tokens)
        required_scopes = held(required_scopes)
        for i in range(GROUP):
            set_conditions(&requests[i], required_scopes, client_address)
            requests[i].probe = probe
        for first in range(0, count, GROUP):
            filled = <int>min(count - first, <Py_ssize_t>GROUP)
            for i in range(filled):
                set_key(&requests[i], tokens[first + i])
                begin(&self.view, &requests[i], &answers[i])
            for i in range(filled):
                prefetch(&self.view, &answers[i])
            for i in range(filled):
                finish(&self.view, &requests[i], now_s, &answers[i])
                count_answer(self.counts, &requests[i], &answers[i], now_s)
                result.append(answer_of(&answers[i], self.view.revision, staleness_ms))
        return result

    def measure_ns(self, bytes tokens not None, int width, Py_ssize_t rounds, bint dependent) -> float:
        """Return the mean time of one verdict in nanoseconds, without Python in between (benchmarks).

        Args:
            tokens: tokens of `width` bytes each, one after the other, in the order to ask.
            rounds: verdicts to time.
            dependent: make each lookup wait for the one before, as behind a network; else they may overlap.
        """
        cdef request_t requests[GROUP]
        cdef answer_t answers[GROUP]
        cdef timespec start, end
        cdef int filled, j
        cdef const uint8_t* all_tokens = <const uint8_t*>PyBytes_AS_STRING(tokens)
        cdef Py_ssize_t count = len(tokens) // width, at = 0, i
        cdef int64_t now_s = wall_s()
        cdef size_t nothing = 0
        # A mask that is zero, but not for the compiler.
        cdef size_t mask = 0 if count > 0 else 1
        for j in range(GROUP):
            set_conditions(&requests[j], (), None)
            requests[j].key_length = width
        with nogil:
            clock_gettime(CLOCK_MONOTONIC, &start)
            i = 0
            while i < rounds:
                # Independent: in groups whose cache misses overlap, as VerifyBatch does it.
                filled = 1 if dependent else GROUP
                for j in range(filled):
                    requests[j].key = all_tokens + at * width + nothing
                    begin(&self.view, &requests[j], &answers[j])
                    at += 1
                    if at == count:
                        at = 0
                if not dependent:
                    for j in range(filled):
                        prefetch(&self.view, &answers[j])
                for j in range(filled):
                    finish(&self.view, &requests[j], now_s, &answers[j])
                    if dependent and answers[j].body_length:
                        nothing = answers[j].body[0] & mask
                i += filled
            clock_gettime(CLOCK_MONOTONIC, &end)
        return ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / rounds


# --- Helpers ---------------------------------------------------------------------------------------------------------

cdef tuple block_of(Map source, block, bytes magic, double element_bytes):
    """Check a block's header; return the offset of its first element, the number of elements, and of records."""
    offset, length = block
    if not 0 <= offset <= offset + length <= source.size or length < BLOCK_HEADER_BYTES or offset % 8:
        raise UnsoundPublication("an index block lies outside the keyring file", code="FORMAT")
    cdef const uint8_t* header = source.data + <uint64_t>offset
    if memcmp(header, PyBytes_AS_STRING(magic), 8) != 0:
        raise UnsoundPublication(f"no {magic.decode()} block where the manifest says", code="FORMAT")
    count, records = load64(header + 8), load64(header + 16)
    if count * element_bytes > length - BLOCK_HEADER_BYTES or (element_bytes == 8 and count == 0):
        raise UnsoundPublication(f"the {magic.decode()} block is shorter than it says", code="FORMAT")
    return offset + BLOCK_HEADER_BYTES, count, records


cdef int64_t staleness_of(view_t* view) except -1:
    """Milliseconds since the last confirmation; a fault when that is too long ago, as for a call."""
    cdef int64_t staleness_ms = monotonic_ms() - load_i64(&view.confirmed_ms)
    if staleness_ms < 0:
        return 0
    if 0 < view.max_staleness_ms < staleness_ms:
        raise Unavailable(f"revision {view.revision} was last confirmed {staleness_ms} ms ago")
    return staleness_ms


cdef int set_key(request_t* request, token) except -1:
    cdef Py_ssize_t length
    if isinstance(token, str):
        try:
            request.key = <const uint8_t*>PyUnicode_AsUTF8AndSize(token, &length)
        except UnicodeEncodeError:     # a lone surrogate: not ASCII in any case
            request.key, length = <const uint8_t*>b"\xff", 1
        request.key_length = length
    elif isinstance(token, bytes):
        request.key = <const uint8_t*>PyBytes_AS_STRING(token)
        request.key_length = PyBytes_GET_SIZE(token)
    else:
        raise InvalidInput(f"a token is text or bytes, not {type(token).__name__}")
    return 0


cdef object held(required_scopes):
    """Return the scopes in something that keeps them alive for the call.

    A request points into their text, and a sequence may make a new string whenever it is asked for one, as the
    repeated fields of protobuf do: then a later scope could come to lie where an earlier one was.
    """
    if type(required_scopes) in (tuple, list, str, bytes):
        return required_scopes
    return tuple(required_scopes)


cdef const uint8_t* utf8_of(text, Py_ssize_t* length) except NULL:
    """The UTF-8 bytes that a string keeps of itself: good as long as the string."""
    try:
        return <const uint8_t*>PyUnicode_AsUTF8AndSize(text, length)
    except (TypeError, UnicodeEncodeError):
        raise InvalidInput(f"{text!r} is not text") from None


cdef int set_conditions(request_t* request, required_scopes, client_address) except -1:
    cdef Py_ssize_t length
    cdef const uint8_t* text
    request.scope_count = 0
    request.has_address = False
    request.probe = False
    request.min_revision = 0
    if required_scopes:
        if isinstance(required_scopes, (str, bytes)):
            raise InvalidInput("required_scopes is a list of scopes", hint="write ['read'], not 'read'")
        if len(required_scopes) > SCOPES_MAX:
            raise InvalidInput(f"more than {SCOPES_MAX} required scopes")
        # The pointers stay good as long as the caller holds the strings, which is for the whole call.
        for scope in required_scopes:
            text = utf8_of(scope, &length)
            if check_scope(text, length) != WIRE_OK:
                raise InvalidInput(f"{scope!r} is not a scope")
            request.scopes[request.scope_count] = text
            request.scope_lengths[request.scope_count] = <uint8_t>length
            request.scope_count += 1
    if client_address:
        text = utf8_of(client_address, &length)
        if parse_address(text, length, request.address) != WIRE_OK:
            raise InvalidInput(f"{client_address!r} is not an IPv4 or IPv6 address")
        request.has_address = True
    return 0


cdef Answer answer_of(const answer_t* answer, int64_t revision, int64_t staleness_ms):
    """Copy an answer out of the keyring."""
    cdef uint8_t head[HEAD_BYTES_MAX]
    cdef size_t head_length
    cdef Answer result = Answer.__new__(Answer)
    cdef char* at
    if staleness_ms < 0:
        staleness_ms = 0
    head_length = write_head(head, answer, revision, staleness_ms)
    result.response = PyBytes_FromStringAndSize(NULL, head_length + answer.body_length)
    at = PyBytes_AS_STRING(result.response)
    memcpy(at, head, head_length)
    if answer.body_length:
        memcpy(at + head_length, answer.body, answer.body_length)
    result._verdict = answer.verdict
    result._phase = answer.phase
    result.revision = revision
    result.staleness_ms = staleness_ms
    return result
