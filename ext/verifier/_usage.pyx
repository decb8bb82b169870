"""Verifications counted by version, and the calls of watched versions one by one.

A version's ordinal in the registry is where its counts lie, so a swap of keyrings moves nothing. Addresses are reserved
for every ordinal there can be, and memory comes page by page with the first count on it. A page that has counts is kept,
emptied, by the next drain, and given back by the one after if it was not used again: memory is bounded by the versions
used in the last few drains, and versions in steady use cost no page faults.

A count and its carries have 40 bits; drained, 32. One loop thread would have to verify one version for more than an hour
at a million calls per second without being drained to fill that, and then it stays at its greatest value.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap

from verifier._uses cimport Uses, rows_new, use_t, uses_of
from verifier.atomics cimport store_i64

from verifier.errors import Unavailable

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <sys/mman.h>
    """
    enum:
        MAP_NORESERVE
        MADV_DONTNEED
        MADV_NOHUGEPAGE
    int madvise(void* at, size_t length, int advice) nogil

cdef enum:
    PAGE_BYTES = 4096
    GROUP_VERSIONS = 4096
    GROUPS = 1 << 20           # for ordinals of 32 bits

    # What of a group has counts. KEPT alone: nothing, but there is memory.
    HAS_VALID = 1
    HAS_REFUSED = 2
    HAS_CARRIES = 4
    KEPT = 8

    MOST = 0xFFFFFFFF
    REPEAT_S = 10              # a watched call is told once in this time, for each version, verdict and address

cdef uint8_t IPV4_HEAD[12]
memcpy(IPV4_HEAD, <const char*>b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)


# --- Memory ----------------------------------------------------------------------------------------------------------

cdef void* reserve(size_t length) noexcept nogil:
    cdef void* at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if at == MAP_FAILED:
        return NULL
    # Large pages would make 2 MiB of a version here and there.
    madvise(at, length, MADV_NOHUGEPAGE)
    return at


cdef bint set_open(set_t* one) noexcept nogil:
    one.counts = <uint8_t*>reserve(<size_t>2 << 32)
    one.carries = <uint32_t*>reserve(<size_t>8 << 32)
    one.groups = <uint8_t*>reserve(GROUPS)
    return one.counts != NULL and one.carries != NULL and one.groups != NULL


cdef void set_close(set_t* one) noexcept nogil:
    if one.counts != NULL:
        munmap(one.counts, <size_t>2 << 32)
    if one.carries != NULL:
        munmap(one.carries, <size_t>8 << 32)
    if one.groups != NULL:
        munmap(one.groups, GROUPS)


cdef usage_t* usage_new() noexcept nogil:
    cdef usage_t* usage = <usage_t*>calloc(1, sizeof(usage_t))
    cdef int i
    if usage == NULL:
        return NULL
    if not set_open(&usage.sets[0]) or not set_open(&usage.sets[1]):
        usage_free(usage)
        return NULL
    for i in range(DELAYED):
        usage.delayed[i] = &usage.nowhere
    usage.used = usage.sets[0]
    return usage


cdef void usage_free(usage_t* usage) noexcept nogil:
    if usage != NULL:
        set_close(&usage.sets[0])
        set_close(&usage.sets[1])
        free(usage)


# --- The side that counts --------------------------------------------------------------------------------------------

cdef void usage_carry(usage_t* usage, uint8_t* counter) noexcept nogil:
    """A count has come round to 0. Rare, and so its cache misses are."""
    cdef uint64_t place = counter - usage.used.counts
    cdef uint64_t refused = place >> 32, ordinal = place & MOST
    cdef uint32_t* carries = usage.used.carries + (2 * ordinal + refused)
    carries[0] += carries[0] != <uint32_t>MOST
    usage.used.groups[ordinal >> GROUP_SHIFT] |= HAS_CARRIES


cdef void usage_exchange(usage_t* usage) noexcept nogil:
    cdef int64_t made = usage.made + 1
    cdef uint8_t* due
    cdef int i
    for i in range(DELAYED):
        due = usage.delayed[i]
        due[0] += 1
        if due[0] == 0:
            usage_carry(usage, due)
        usage.delayed[i] = &usage.nowhere
    usage.nowhere = 0
    usage.used = usage.sets[made & 1]
    store_i64(&usage.made, made)


cdef inline bint is_repeated(const watched_t* call, const watched_t* before) noexcept nogil:
    return (call.ordinal == before.ordinal and call.verdict == before.verdict
            and call.second // REPEAT_S == before.second // REPEAT_S and call.has_address == before.has_address
            and memcmp(call.address, before.address, 16) == 0)


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    """Spread every bit over all (the finaliser of MurmurHash3)."""
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCDull
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53ull
    return value ^ value >> 33


cdef inline uint32_t place_of(const watched_t* call) noexcept nogil:
    """Where a call is remembered: the same for calls that differ in their time alone."""
    cdef uint64_t parts[2]
    memcpy(parts, call.address, 16)
    return <uint32_t>mix(mix(mix(<uint64_t>call.ordinal << 8 | call.verdict) ^ parts[0]) ^ parts[1]) & (SEEN - 1)


cdef void usage_watch(usage_t* usage, uint32_t ordinal, int verdict, const uint8_t* address,
                      int64_t now_s) noexcept nogil:
    cdef watched_t call
    cdef watched_t* before
    memset(&call, 0, sizeof(call))
    call.second = now_s
    call.ordinal = ordinal
    call.verdict = <uint8_t>verdict
    if address != NULL:
        call.has_address = 1
        memcpy(call.address, address, 16)
    before = &usage.seen[place_of(&call)]
    if is_repeated(&call, before):
        return
    if usage.put - load_i64(&usage.taken) >= WATCHED_MAX:
        store_i64(&usage.lost, usage.lost + 1)
        return
    before[0] = call
    usage.ring[usage.put % WATCHED_MAX] = call
    store_i64(&usage.put, usage.put + 1)


# --- The side that drains --------------------------------------------------------------------------------------------

cdef inline bint are_empty(const uint8_t* bytes) noexcept nogil:
    """Tell whether eight bytes in a row are 0."""
    cdef uint64_t eight
    memcpy(&eight, bytes, 8)
    return eight == 0


cdef inline uint32_t total(uint8_t count, uint32_t carries) noexcept nogil:
    return <uint32_t>MOST if carries >> 24 else carries << 8 | count


cdef size_t read_group(const set_t* one, size_t group, use_t* rows) noexcept nogil:
    """Count the versions of a group that were used; with `rows`, write them there."""
    cdef uint64_t first = <uint64_t>group << GROUP_SHIFT
    cdef const uint8_t* valid = one.counts + first
    cdef const uint8_t* refused = valid + (<uint64_t>1 << 32)
    cdef const uint32_t* carries = one.carries + 2 * first
    # What has no counts is not read: that would make pages of it.
    cdef bint has_refused = one.groups[group] & HAS_REFUSED, has_carries = one.groups[group] & HAS_CARRIES
    cdef size_t count = 0
    cdef int i = 0
    cdef use_t row
    while i < GROUP_VERSIONS:
        if i % 8 == 0 and not has_carries and are_empty(valid + i) and (not has_refused or are_empty(refused + i)):
            i += 8
            continue
        row.valid = total(valid[i], carries[2 * i] if has_carries else 0)
        row.refused = total(refused[i] if has_refused else 0, carries[2 * i + 1] if has_carries else 0)
        if row.valid | row.refused:
            if rows != NULL:
                row.ordinal = <uint32_t>first + <uint32_t>i
                rows[count] = row
            count += 1
        i += 1
    return count


cdef void clear_group(set_t* one, size_t group) noexcept nogil:
    """Forget the counts of a group, or give its memory back when it has none."""
    cdef uint64_t first = <uint64_t>group << GROUP_SHIFT
    cdef uint8_t* valid = one.counts + first
    cdef uint8_t* refused = valid + (<uint64_t>1 << 32)
    cdef uint32_t* carries = one.carries + 2 * first
    cdef uint8_t has = one.groups[group]
    if has == KEPT:
        madvise(valid, PAGE_BYTES, MADV_DONTNEED)
        madvise(refused, PAGE_BYTES, MADV_DONTNEED)
        madvise(carries, 8 * PAGE_BYTES, MADV_DONTNEED)
        one.groups[group] = 0
        return
    if has & HAS_VALID:
        memset(valid, 0, PAGE_BYTES)
    if has & HAS_REFUSED:
        memset(refused, 0, PAGE_BYTES)
    if has & HAS_CARRIES:
        memset(carries, 0, 8 * PAGE_BYTES)
    one.groups[group] = KEPT


cdef size_t next_group(const set_t* one, size_t group) noexcept nogil:
    """The first group from this one on that has memory; GROUPS when there is none."""
    while group < GROUPS:
        if group % 8 == 0 and are_empty(one.groups + group):
            group += 8
        elif one.groups[group]:
            return group
        else:
            group += 1
    return GROUPS


cdef use_t* empty(set_t* one, size_t* count) noexcept nogil:
    """Move all counts into rows; NULL, and nothing moved, when there is no memory."""
    cdef size_t group = next_group(one, 0)
    cdef use_t* rows
    count[0] = 0
    while group < GROUPS:
        if one.groups[group] != KEPT:
            count[0] += read_group(one, group, NULL)
        group = next_group(one, group + 1)
    rows = rows_new(count[0])
    if rows == NULL:
        return NULL
    count[0] = 0
    group = next_group(one, 0)
    while group < GROUPS:
        if one.groups[group] != KEPT:
            count[0] += read_group(one, group, rows + count[0])
        clear_group(one, group)
        group = next_group(one, group + 1)
    return rows


cdef class Usage:
    """What one loop, or all callers of an in-process keyring, have verified. Drained by one thread.

    Raises:
        Unavailable: the machine does not give the address space (80 GiB, of which only what is used becomes memory).
    """

    def __cinit__(self):
        self.usage = usage_new()
        if self.usage == NULL:
            raise Unavailable("no address space to count the use of versions in",
                              hint="80 GiB per thread are reserved, not used: look at ulimit -v and vm.overcommit_memory")

    def __dealloc__(self):
        usage_free(self.usage)

    def ask(self):
        """Ask for an exchange of the sets, if none is under way."""
        store_i64(&self.usage.asked, load_i64(&self.usage.made) + 1)

    def exchange(self):
        """Make the exchange here. Only while nobody counts: no loop runs, and the GIL is held."""
        if load_i64(&self.usage.asked) != self.usage.made:
            usage_exchange(self.usage)

    @property
    def exchanged(self) -> bool:
        """Whether the exchange that was asked for is made, so that there is a set to drain."""
        return load_i64(&self.usage.made) == self.usage.asked

    def drain(self) -> Uses:
        """Return what was counted between the last two exchanges, and forget it; nothing when that was done already.

        Raises:
            RuntimeError: an exchange is under way.
            MemoryError: nothing was changed.
        """
        cdef set_t* one
        cdef use_t* rows
        cdef size_t count
        if load_i64(&self.usage.made) != self.usage.asked:
            raise RuntimeError("the sets are not exchanged yet")
        if self.drained == self.usage.asked:
            return Uses()
        with nogil:
            one = &self.usage.sets[(self.usage.asked & 1) ^ 1]
            rows = empty(one, &count)
        if rows == NULL:
            raise MemoryError
        self.drained = self.usage.asked
        return uses_of(rows, count)

    def watched(self) -> list:
        """Take the calls of watched versions: tuples of ordinal, verdict, second, and the address's 0, 4 or 16 bytes."""
        cdef int64_t put = load_i64(&self.usage.put), taken = self.usage.taken
        cdef watched_t* call
        cdef list found = []
        while taken < put:
            call = &self.usage.ring[taken % WATCHED_MAX]
            taken += 1
            if not call.has_address:
                address = b""
            elif memcmp(call.address, IPV4_HEAD, 12) == 0:
                address = <bytes>call.address[12:16]
            else:
                address = <bytes>call.address[:16]
            found.append((call.ordinal, call.verdict, call.second, address))
        store_i64(&self.usage.taken, taken)
        return found

    @property
    def watched_lost(self) -> int:
        """Calls of watched versions that were left out since the start, as there were too many at once."""
        return load_i64(&self.usage.lost)
