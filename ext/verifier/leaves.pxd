# The leaf scan: finds the records of `keys` in a finished keyring file, without trusting a byte of it.
#
# It reads the file page after page (by pread: touching a map would count as memory of the process). LMDB writes the
# leaves of an append in ascending order; the scan checks that.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memcpy, memset

from verifier._lookup cimport KEY_BYTES, load16, load32, load64
from verifier.files cimport transfer

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


cdef inline int read_page(scan_t* scan) noexcept nogil:
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


cdef inline int next_record(scan_t* scan, const uint8_t** key, size_t* length, uint64_t* offset) noexcept nogil:
    # Finds the next record of `keys`: its key in the chunk, the length of its value, where the key lies in the file.
    # Nodes of the other tables are told apart by the length of their keys, which is never 16, or by their flags.
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
            if <size_t>at + NODE_HEADER_BYTES + KEY_BYTES + length[0] > PAGE:
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


cdef inline bint scan_begin(scan_t* scan, int fd, uint64_t pages) noexcept nogil:
    memset(scan, 0, sizeof(scan_t))
    scan.fd = fd
    scan.pages = pages
    scan.chunk = <uint8_t*>malloc(CHUNK_PAGES * PAGE)
    return scan.chunk != NULL
