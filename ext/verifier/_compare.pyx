"""Compares the records of two publications, side by side in the order of their tags.

Each side is a base keyring and perhaps a delta on it. The files are scanned page after page by `leaves.pxd`, which
trusts no byte of them; memory does not grow with their size.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from verifier._lookup cimport (
    ABSENT_FLAG, AT_CLIENT, AT_END, AT_FLAGS, AT_L1, AT_L2, AT_NOT_BEFORE, AT_RULES, KEY_BYTES, KEY_OFF_FLAG,
    RECORD_FIXED_BYTES, REVOKED_FLAG, RULE_BYTES, load16, load32,
)
from verifier.leaves cimport SCAN_END, SCAN_PAGE, SCAN_RECORD, next_record, scan_begin, scan_t

from verifier.errors import UnsoundPublication

cdef enum:
    FILES_MAX = 2
    NO_TIME = 0xFFFFFFFF
    STEPS_BETWEEN_WORDS = 1 << 18
    AT_ORDINAL = 40            # of the version

    GAINED = 1
    LOST = 2
    DENIED = 4
    EXTENDED = 8
    POWERS = 16                # scopes, metadata or rules differ: Python judges whether they are wider
    WIDENED = 32

NAMES = {LOST: "lost", GAINED: "gained", DENIED: "denied", EXTENDED: "extended", WIDENED: "widened"}

ctypedef struct side_t:
    scan_t scans[FILES_MAX]    # base, delta
    const uint8_t* keys[FILES_MAX]
    size_t lengths[FILES_MAX]
    bint due[FILES_MAX]        # its record was used: the next one is to be read
    bint ended[FILES_MAX]
    uint64_t found[FILES_MAX]
    int files
    const uint8_t* switches
    uint64_t bits
    const uint8_t* key         # of the side's present record, NULL after the last
    size_t length
    bint denied, active
    uint32_t end

ctypedef struct counts_t:
    uint64_t before_active, after_active, after_records, dead_on_arrival, gained, lost, widened, extended, denied


cdef bint is_whole(const uint8_t* record, size_t length) noexcept nogil:
    # Tells whether the parts that are looked at lie within the record.
    cdef size_t l1, l2
    if length < RECORD_FIXED_BYTES:
        return False
    l1 = load16(record + AT_L1)
    l2 = load16(record + AT_L2)
    return l1 <= l2 and RECORD_FIXED_BYTES + l2 + <size_t>record[AT_RULES] * RULE_BYTES <= length


cdef int read_due(side_t* side) noexcept nogil:
    # Reads the next record of each file whose last one was used.
    cdef int i, result
    cdef uint64_t offset = 0
    for i in range(side.files):
        if not side.due[i] or side.ended[i]:
            continue
        result = next_record(&side.scans[i], &side.keys[i], &side.lengths[i], &offset)
        if result < 0:
            return result
        side.due[i] = False
        side.ended[i] = result == SCAN_END
        if result == SCAN_RECORD:
            side.found[i] += 1
            if not is_whole(side.keys[i] + KEY_BYTES, side.lengths[i]):
                return SCAN_PAGE
    return SCAN_RECORD


cdef int choose(side_t* side) noexcept nogil:
    # Picks the file with the lower tag; of two equal ones the delta's, which replaces the base's. -1: all have ended.
    cdef int order
    if side.files == 0 or (side.ended[0] and (side.files == 1 or side.ended[1])):
        return -1
    if side.files == 1 or side.ended[1]:
        order = -1
    elif side.ended[0]:
        order = 1
    else:
        order = memcmp(side.keys[0], side.keys[1], KEY_BYTES)
    side.due[0] = side.due[0] or order <= 0
    side.due[1] = side.due[1] or order >= 0
    return 0 if order < 0 else 1


cdef int advance(side_t* side, uint32_t now_s) noexcept nogil:
    # Goes to the next record as a node sees it, and judges it. SCAN_END: there was none left.
    cdef int result, chosen
    while True:
        result = read_due(side)
        if result < 0:
            return result
        chosen = choose(side)
        if chosen < 0:
            side.key = NULL
            side.active = side.denied = False
            return SCAN_END
        side.key = side.keys[chosen]
        side.length = side.lengths[chosen]
        if not load16(side.key + KEY_BYTES + AT_FLAGS) & ABSENT_FLAG:
            judge(side, side.key + KEY_BYTES, now_s)
            return SCAN_RECORD


cdef void judge(side_t* side, const uint8_t* record, uint32_t now_s) noexcept nogil:
    cdef uint32_t client = load32(record + AT_CLIENT)
    side.end = load32(record + AT_END)
    side.denied = (load16(record + AT_FLAGS) & (REVOKED_FLAG | KEY_OFF_FLAG) != 0
                   or (client < side.bits and side.switches[client >> 3] >> (client & 7) & 1))
    side.active = not side.denied and (side.end > now_s or side.end == NO_TIME)


cdef bint same_powers(const uint8_t* one, const uint8_t* other) noexcept nogil:
    # Tells whether the second part of the answer (scopes, metadata) and the rules are the same bytes.
    cdef size_t l1 = load16(one + AT_L1), m1 = load16(other + AT_L1)
    cdef size_t length = load16(one + AT_L2) - l1 + <size_t>one[AT_RULES] * RULE_BYTES
    if one[AT_RULES] != other[AT_RULES] or load16(one + AT_L2) - l1 != load16(other + AT_L2) - m1:
        return False
    return memcmp(one + RECORD_FIXED_BYTES + l1, other + RECORD_FIXED_BYTES + m1, length) == 0


cdef bint same_record(const side_t* one, const side_t* other) noexcept nogil:
    return one.length == other.length and memcmp(one.key, other.key, KEY_BYTES + one.length) == 0


cdef int changes_of(const side_t* old, const side_t* new, bint dormant) noexcept nogil:
    # What callers notice; a side whose record is missing is neither active nor denied. Powers are compared where both
    # are active, and `dormant` asks for those of all others too.
    cdef int found = 0
    if new.active and not old.active:
        found |= GAINED
    if old.active and not new.active:
        found |= LOST
    if new.denied and not old.denied and old.key != NULL:
        found |= DENIED
    if old.active and new.active:
        if new.end > old.end:
            found |= EXTENDED
    if (old.active and new.active) or (dormant and old.key != NULL and new.key != NULL):
        if not same_powers(old.key + KEY_BYTES, new.key + KEY_BYTES):
            found |= POWERS
    return found


cdef void count(counts_t* counts, int found) noexcept nogil:
    counts.gained += found & GAINED != 0
    counts.lost += found & LOST != 0
    counts.denied += found & DENIED != 0
    counts.extended += found & EXTENDED != 0
    counts.widened += found & WIDENED != 0


cdef void close_side(side_t* side) noexcept nogil:
    cdef int i
    for i in range(FILES_MAX):
        free(side.scans[i].chunk)


cdef class Comparison:
    """Two publications that are being compared.

    Args:
        before: the files of the first as (fd, pages, records) each: a base, then perhaps a delta; none at all is fine.
        before_switches: its client switches, and how many bits of them count.
        after: the files of the second.
        after_switches: its client switches.

    The descriptors must stay open.
    """
    cdef side_t old, new
    cdef counts_t counts
    cdef uint64_t steps
    cdef int order             # of the sides' present tags: which of them moves next
    cdef bint dormant
    cdef list records          # how many each file should have: of `before`, of `after`
    cdef object kept           # the switches, which the sides point into

    def __cinit__(self, list before not None, tuple before_switches not None, list after not None,
                  tuple after_switches not None):
        self.kept = (before_switches, after_switches)
        self.records = [[file[2] for file in before], [file[2] for file in after]]
        self._begin(&self.old, before, before_switches[0], before_switches[1])
        self._begin(&self.new, after, after_switches[0], after_switches[1])

    def __dealloc__(self):
        close_side(&self.old)
        close_side(&self.new)

    cdef int _begin(self, side_t* side, list files, bytes switches, uint64_t bits) except -1:
        cdef int i
        if len(files) > FILES_MAX or bits > <uint64_t>len(switches) * 8:
            raise ValueError("a side has at most two files, and switches for all its bits")
        for i in range(len(files)):
            if not scan_begin(&side.scans[i], files[i][0], files[i][1]):
                raise MemoryError
            side.due[i] = True
        side.files = len(files)
        side.switches = <const uint8_t*>PyBytes_AS_STRING(switches)
        side.bits = bits
        return 0

    def run(self, int64_t now_s, is_wider, tell=None, progress=None, list lost=None, *, bint dormant=False) -> dict:
        """Compare to the end; once.

        Args:
            now_s: seconds since 1970 at which both are judged.
            is_wider: called with two records whose scopes, metadata or rules differ; tells if the second may do more.
            tell: called with the names of a version's changes, its tag head and its record, the newer if there are
                two; None: nobody wants to know. It returns whether it wants to be told more.
            progress: called with the number of tags done, now and then.
            lost: gets the ordinals of the versions that are lost.
            dormant: judge the powers of versions that are not active, too: whoever lifts their denial meets them.

        Returns:
            The counts by name.

        Raises:
            UnsoundPublication: a file is damaged.
        """
        cdef uint32_t now = <uint32_t>max(<int64_t>0, min(now_s, <int64_t>NO_TIME - 1))
        cdef side_t* old = &self.old
        cdef side_t* new = &self.new
        cdef side_t* newest
        cdef int order, found, result
        cdef bint told = tell is not None
        self.dormant = dormant
        with nogil:
            while True:
                result = self._next(now)
                if result <= 0:
                    break
                order = self.order
                found = self._step(order)
                if found & POWERS or (found and told) or (found & LOST and lost is not None):
                    with gil:
                        if found & LOST and lost is not None:
                            lost.append(load32(old.key + KEY_BYTES + AT_ORDINAL))
                        if found & POWERS:
                            found ^= POWERS
                            if is_wider((<const char*>old.key + KEY_BYTES)[:old.length],
                                        (<const char*>new.key + KEY_BYTES)[:new.length]):
                                found |= WIDENED
                        if found and told:
                            newest = new if order >= 0 else old
                            told = tell([name for bit, name in NAMES.items() if found & bit],
                                        (<const char*>newest.key)[:KEY_BYTES],
                                        (<const char*>newest.key + KEY_BYTES)[:newest.length])
                count(&self.counts, found)
                self.steps += 1
                if self.steps % STEPS_BETWEEN_WORDS == 0:
                    with gil:
                        PyErr_CheckSignals()
                        if progress is not None:
                            progress(self.steps)
        self._check(result)
        return dict(self.counts)

    def differing(self, size_t at_most) -> list:
        """Return the next records that differ, as (tag head, record before, record after); None where one is missing.

        Args:
            at_most: how many; an empty list means that the end was reached.

        Raises:
            UnsoundPublication: a file is damaged.
        """
        cdef list found = []
        cdef int result = SCAN_RECORD
        cdef const side_t* old = &self.old
        cdef const side_t* new = &self.new
        while <size_t>len(found) < at_most:
            with nogil:
                result = self._next_different()
            if result <= 0:
                self._check(result)
                break
            key = (<const char*>(new.key if self.order >= 0 else old.key))[:KEY_BYTES]
            found.append((
                key,
                (<const char*>old.key + KEY_BYTES)[:old.length] if self.order <= 0 else None,
                (<const char*>new.key + KEY_BYTES)[:new.length] if self.order >= 0 else None,
            ))
        return found

    cdef int _next(self, uint32_t now_s) noexcept nogil:
        # Both sides move after a pair; the one that lay lower moves alone after a single.
        cdef int result = SCAN_RECORD
        if self.order <= 0:
            result = advance(&self.old, now_s)
        if result >= 0 and self.order >= 0:
            result = advance(&self.new, now_s)
        if result < 0:
            return result
        if self.old.key == NULL and self.new.key == NULL:
            return SCAN_END
        self.order = (-1 if self.new.key == NULL else 1 if self.old.key == NULL
                      else memcmp(self.old.key, self.new.key, KEY_BYTES))
        return SCAN_RECORD

    cdef int _next_different(self) noexcept nogil:
        cdef int result
        while True:
            result = self._next(0)
            if result <= 0 or self.order != 0 or not same_record(&self.old, &self.new):
                return result

    cdef int _step(self, int order) noexcept nogil:
        # Judges the present pair; a side that lies ahead of the other has no part in it.
        cdef side_t nothing
        cdef const side_t* old = &self.old
        cdef const side_t* new = &self.new
        if order != 0:
            memset(&nothing, 0, sizeof(side_t))
            if order < 0:
                new = &nothing
            else:
                old = &nothing
        self.counts.before_active += old.active
        self.counts.after_active += new.active
        if new.key != NULL:
            self.counts.after_records += 1
            self.counts.dead_on_arrival += new.end <= load32(new.key + KEY_BYTES + AT_NOT_BEFORE)
        return changes_of(old, new, self.dormant)

    def _check(self, int result) -> None:
        found = [[self.old.found[i] for i in range(self.old.files)], [self.new.found[i] for i in range(self.new.files)]]
        if result < 0 or found != self.records:
            raise UnsoundPublication("a keyring is damaged: its records cannot be read to the end", code="BAD_DIGEST")
