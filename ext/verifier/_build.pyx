"""Makes the index over the records of a finished keyring file, and surveys them.

`docs/keyring-format.md` is the specification; the records are found by the scan of `leaves.pxd`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from verifier._lookup cimport (
    ABSENT_FLAG, AT_CLIENT, AT_END, AT_FLAGS, AT_NOT_BEFORE, AT_SUPERSEDED_AT, FINGERPRINT_BITS, KEY_BYTES,
    KEY_OFF_FLAG, REVOKED_FLAG, RULES_FLAG, WATCH_FLAG, load16, load32, load64, verifier_be64,
)
from verifier._records cimport RECORD_SOUND, check_record
from verifier._tag cimport TAG_BYTES
from verifier.leaves cimport SCAN_END, SCAN_IO, SCAN_ORDER, SCAN_PAGE, SCAN_RECORD, next_record, scan_begin, scan_t

from verifier._records import FAULTS
from verifier.errors import UnsoundPublication

cdef enum:
    ROWS_AT_ONCE = 4096        # of one list of `Rows`
    BLOCK_HEADER_BYTES = 48
    BLOCK_BYTES_MIN = 4096
    SLOTS_MIN = 64
    FINGERPRINT = (1 << FINGERPRINT_BITS) - 1
    NO_TIME = 0xFFFFFFFF

SCAN_FAULTS = {
    SCAN_IO: "the file could not be read to its end",
    SCAN_PAGE: "page {page} is not a page of LMDB that belongs there",
    SCAN_ORDER: "the records are not in ascending order of their tags at page {page}",
}


def _scan_fault(int result, uint64_t page) -> UnsoundPublication:
    return UnsoundPublication(SCAN_FAULTS[result].format(page=page), code="FORMAT")


# --- Slots -----------------------------------------------------------------------------------------------------------

def slot_count(uint64_t records) -> int:
    """Return how many slots the index of so many records has."""
    return (max(<uint64_t>SLOTS_MIN, (records * 10 + 6) // 7) + 7) // 8 * 8


cdef uint64_t home_of(uint64_t head, uint64_t slots) noexcept nogil:
    return ((head >> 32) * slots) >> 32


def make_slots(int fd, uint64_t pages, uint64_t records) -> bytes:
    """Scan a file that holds `keys` only, and return the slots block for its records.

    Args:
        fd: the open file.
        pages: its length in pages.
        records: how many the table `keys` has.

    Raises:
        UnsoundPublication: the scan found another number of records, or pages that do not belong there.
    """
    cdef uint64_t slots = slot_count(records)
    cdef bytes block = PyBytes_FromStringAndSize(
        NULL, max(<uint64_t>BLOCK_BYTES_MIN, BLOCK_HEADER_BYTES + 8 * slots))
    cdef uint8_t* header = <uint8_t*>PyBytes_AS_STRING(block)
    cdef uint64_t* table = <uint64_t*>(header + BLOCK_HEADER_BYTES)
    cdef uint64_t head, at, offset = 0, found = 0
    cdef size_t length = 0
    cdef const uint8_t* key = NULL
    cdef scan_t scan
    cdef int result = SCAN_END
    memset(header, 0, len(block))
    if not scan_begin(&scan, fd, pages):
        raise MemoryError
    with nogil:
        while found <= records:
            result = next_record(&scan, &key, &length, &offset)
            if result != SCAN_RECORD:
                break
            found += 1
            head = verifier_be64(load64(key))
            at = home_of(head, slots)
            while table[at] != 0:
                at = at + 1 if at + 1 < slots else 0
            table[at] = offset << FINGERPRINT_BITS | (head & FINGERPRINT)
        free(scan.chunk)
    if result < 0:
        raise _scan_fault(result, scan.page)
    if found != records:
        raise UnsoundPublication(f"the scan found {found} records where the table has {records}")
    memcpy(header, b"VKSLOTS1", 8)
    memcpy(header + 8, &slots, 8)
    memcpy(header + 16, &records, 8)
    return block


# --- Survey ----------------------------------------------------------------------------------------------------------

ctypedef struct survey_t:
    uint64_t records
    uint64_t record_bytes
    uint64_t record_bytes_max
    uint64_t revoked, key_off, watch, with_rules, absent, client_off
    uint64_t pending, current, retiring, expired       # of those not revoked and not absent
    uint64_t valid                                     # for some caller, at the time of the survey
    uint64_t damaged, unreachable
    uint64_t damaged_at, unreachable_at                # offset of the first one
    int damaged_how


cdef bint is_reachable(const uint64_t* table, uint64_t slots, uint64_t head, uint64_t offset) noexcept nogil:
    cdef uint64_t wanted = offset << FINGERPRINT_BITS | (head & FINGERPRINT)
    cdef uint64_t at = home_of(head, slots), tried
    for tried in range(slots):
        if table[at] == wanted or table[at] == 0:
            return table[at] == wanted
        at = at + 1 if at + 1 < slots else 0
    return False


cdef void count_record(survey_t* counts, const uint8_t* record, uint32_t now_s, const uint8_t* switches,
                       uint64_t bits) noexcept nogil:
    cdef int flags = load16(record + AT_FLAGS)
    cdef uint32_t client = load32(record + AT_CLIENT)
    cdef bint client_off = client < bits and switches[client >> 3] >> (client & 7) & 1
    if flags & ABSENT_FLAG:
        counts.absent += 1
        return
    counts.revoked += flags & REVOKED_FLAG != 0
    counts.key_off += flags & KEY_OFF_FLAG != 0
    counts.watch += flags & WATCH_FLAG != 0
    counts.with_rules += flags & RULES_FLAG != 0
    counts.client_off += client_off
    if flags & REVOKED_FLAG:
        return
    if now_s >= load32(record + AT_END):
        counts.expired += 1
    elif now_s < load32(record + AT_NOT_BEFORE):
        counts.pending += 1
    else:
        if now_s >= load32(record + AT_SUPERSEDED_AT):
            counts.retiring += 1
        else:
            counts.current += 1
        counts.valid += not client_off and not flags & KEY_OFF_FLAG


def survey(int fd, uint64_t pages, int64_t now_s, bytes slots not None, bytes switches not None, *,
           bint delta=False) -> dict:
    """Check and count all records of a finished file. Reads nothing but what the file's size allows; any bytes will do.

    Args:
        fd: the open file.
        pages: its length in pages.
        now_s: seconds since 1970, for the phases.
        slots: the elements of the slots block, without header; each record is looked up through them. Empty: no lookup.
        switches: the bits of the client switches.
        delta: ABSENT records are allowed.

    Returns:
        Counts by name (see `survey_t`), `damaged_how` as text or None, `slots_used`, and `scan_fault`: None, or why the
        scan ended early.
    """
    cdef survey_t counts
    cdef scan_t scan
    cdef const uint64_t* table = <const uint64_t*>PyBytes_AS_STRING(slots)
    cdef const uint8_t* bits = <const uint8_t*>PyBytes_AS_STRING(switches)
    cdef uint64_t slots_total = len(slots) // 8, bits_total = <uint64_t>len(switches) * 8
    cdef uint64_t offset = 0, used = 0, at
    cdef uint32_t now = <uint32_t>max(<int64_t>0, min(now_s, <int64_t>NO_TIME - 1))
    cdef const uint8_t* key = NULL
    cdef size_t length = 0
    cdef int result, fault
    memset(&counts, 0, sizeof(counts))
    if not scan_begin(&scan, fd, pages):
        raise MemoryError
    with nogil:
        while True:
            result = next_record(&scan, &key, &length, &offset)
            if result != SCAN_RECORD:
                break
            counts.records += 1
            counts.record_bytes += length
            counts.record_bytes_max = max(counts.record_bytes_max, <uint64_t>length)
            if slots_total and not is_reachable(table, slots_total, verifier_be64(load64(key)), offset):
                if counts.unreachable == 0:
                    counts.unreachable_at = offset
                counts.unreachable += 1
            fault = check_record(key + KEY_BYTES, length, delta)
            if fault == RECORD_SOUND:
                count_record(&counts, key + KEY_BYTES, now, bits, bits_total)
                continue
            if counts.damaged == 0:
                counts.damaged_at = offset
                counts.damaged_how = fault
            counts.damaged += 1
        for at in range(slots_total):
            used += table[at] != 0
        free(scan.chunk)
    found = dict(counts)
    found["damaged_how"] = FAULTS.get(counts.damaged_how)
    found["slots_used"] = used
    found["scan_fault"] = None if result >= 0 else SCAN_FAULTS[result].format(page=scan.page)
    return found


@cython.final
cdef class Rows:
    """The rows of a finished file, ascending: an iterator of lists of pairs of tag, 32 bytes, and record.

    Args:
        fd: the open file; it must stay open.
        pages: its length in pages.

    Raises:
        UnsoundPublication: FORMAT, when the scan comes upon a page that does not belong there.
    """
    cdef scan_t scan

    def __cinit__(self, int fd, uint64_t pages):
        if not scan_begin(&self.scan, fd, pages):
            raise MemoryError

    def __dealloc__(self):
        free(self.scan.chunk)

    def __iter__(self):
        return self

    def __next__(self) -> list:
        cdef list rows = []
        cdef const uint8_t* key = NULL
        cdef size_t length = 0
        cdef uint64_t offset = 0
        cdef int result = SCAN_RECORD
        while len(rows) < ROWS_AT_ONCE and result == SCAN_RECORD:
            result = next_record(&self.scan, &key, &length, &offset)
            if result == SCAN_RECORD:
                rows.append(((<const char*>key)[:min(length + KEY_BYTES, <size_t>TAG_BYTES)],
                             (<const char*>key + KEY_BYTES)[:length]))
        if result < 0:
            raise _scan_fault(result, self.scan.page)
        if not rows:
            raise StopIteration
        return rows
