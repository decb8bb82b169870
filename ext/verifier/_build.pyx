"""Finds the records in a finished keyring file, makes the index over them, and surveys them.

`docs/keyring-format.md` is the specification. The scan reads the file page after page (by pread: touching a map would
count as memory of the process) and finds the records of `keys`. LMDB writes the leaves of an append in ascending order;
the scan checks that. `make_slots` and `survey` stand on top of it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from verifier._lookup cimport (
    ABSENT_FLAG, AT_CLIENT, AT_END, AT_FLAGS, AT_NOT_BEFORE, AT_SUPERSEDED_AT, FINGERPRINT_BITS, KEY_BYTES,
    KEY_OFF_FLAG, REVOKED_FLAG, RULES_FLAG, WATCH_FLAG, load16, load32, load64, verifier_be64,
)
from verifier._records cimport RECORD_SOUND, check_record
from verifier.files cimport transfer

from verifier._records import FAULTS
from verifier.errors import UnsoundPublication

cdef enum:
    PAGE = 4096
    PAGE_HEADER_BYTES = 16
    NODE_HEADER_BYTES = 8
    AT_PAGE_FLAGS = 10
    AT_PAGE_LOWER = 12         # leaf: end of the pointers; overflow: number of pages, 4 bytes
    AT_PAGE_UPPER = 14
    LEAF = 2
    BRANCH = 1
    OVERFLOW = 4
    META = 8
    CHUNK_PAGES = 256

    SCAN_RECORD = 1
    SCAN_END = 0
    SCAN_IO = -1
    SCAN_PAGE = -2
    SCAN_ORDER = -3

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


# --- The leaf scan ---------------------------------------------------------------------------------------------------

ctypedef struct scan_t:
    int fd
    uint64_t pages             # of the file
    uint64_t page              # the one that is being read
    uint64_t chunk_page        # the first one in `chunk`
    uint64_t chunk_pages       # how many there are in it
    int nodes                  # of the page
    int node                   # next of them
    const uint8_t* at          # the page in the chunk, when it is a leaf
    uint8_t* chunk
    uint8_t last[KEY_BYTES]    # key of the last record
    bint any                   # there was one


cdef int read_page(scan_t* scan) noexcept nogil:
    # Looks at scan.page: SCAN_RECORD for a leaf with nodes, SCAN_END for any other that was stepped over, or an error.
    cdef const uint8_t* page
    cdef int flags, lower, upper
    cdef uint32_t more
    if scan.page - scan.chunk_page >= scan.chunk_pages:
        scan.chunk_page = scan.page
        scan.chunk_pages = min(<uint64_t>CHUNK_PAGES, scan.pages - scan.page)
        if transfer(scan.fd, scan.chunk, scan.chunk_pages * PAGE, scan.page * PAGE, False):
            return SCAN_IO
    page = scan.chunk + (scan.page - scan.chunk_page) * PAGE
    flags = load16(page + AT_PAGE_FLAGS)
    if load64(page) != scan.page or (flags != LEAF and flags != BRANCH and flags != OVERFLOW and flags != META):
        return SCAN_PAGE
    if flags == OVERFLOW:
        more = load32(page + AT_PAGE_LOWER)
        if more == 0 or more > scan.pages - scan.page:
            return SCAN_PAGE
        scan.page += more
        return SCAN_END
    lower = load16(page + AT_PAGE_LOWER)
    upper = load16(page + AT_PAGE_UPPER)
    if flags == LEAF:
        if not PAGE_HEADER_BYTES <= lower <= upper <= PAGE or lower & 1:
            return SCAN_PAGE
        scan.nodes = (lower - PAGE_HEADER_BYTES) >> 1
        scan.node = 0
        scan.at = page
    scan.page += 1
    return SCAN_RECORD if flags == LEAF else SCAN_END


cdef int next_record(scan_t* scan, const uint8_t** key, size_t* length, uint64_t* offset) noexcept nogil:
    """Find the next record of `keys`: its key in the chunk, the length of its value, where the key lies in the file.

    Nodes of the other tables are told apart by the length of their keys, which is never 16, or by their flags.
    """
    cdef int at, result
    cdef const uint8_t* node
    while True:
        while scan.node < scan.nodes:
            at = load16(scan.at + PAGE_HEADER_BYTES + 2 * scan.node)
            scan.node += 1
            if at < PAGE_HEADER_BYTES + 2 * scan.nodes or at > PAGE - NODE_HEADER_BYTES:
                return SCAN_PAGE
            node = scan.at + at
            if load16(node + 6) != KEY_BYTES or load16(node + 4) != 0:
                continue
            length[0] = load32(node)
            if length[0] > <size_t>(PAGE - at - NODE_HEADER_BYTES - KEY_BYTES):
                return SCAN_PAGE
            key[0] = node + NODE_HEADER_BYTES
            if scan.any and memcmp(key[0], scan.last, KEY_BYTES) <= 0:
                return SCAN_ORDER
            memcpy(scan.last, key[0], KEY_BYTES)
            scan.any = True
            offset[0] = (scan.page - 1) * PAGE + at + NODE_HEADER_BYTES
            return SCAN_RECORD
        if scan.page >= scan.pages:
            return SCAN_END
        result = read_page(scan)
        if result < 0:
            return result


cdef bint scan_begin(scan_t* scan, int fd, uint64_t pages) noexcept nogil:
    memset(scan, 0, sizeof(scan_t))
    scan.fd = fd
    scan.pages = pages
    scan.chunk = <uint8_t*>malloc(CHUNK_PAGES * PAGE)
    return scan.chunk != NULL


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
