# Verifications counted by version: by one loop thread without a lock, drained by another thread.
#
# There are two sets of counts. A loop counts in one; who drains asks for an exchange, the loop makes it at the beginning
# of its next turn, and from then on the other set belongs to the drainer alone until the next exchange.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from verifier.atomics cimport load_i64

cdef enum:
    GROUP_SHIFT = 12           # the counts of 4,096 versions lie on one page of memory
    DELAYED = 16               # counts that wait for their cache lines, a power of two
    SEEN = 1024                # a power of two
    WATCHED_MAX = 4096

# Counts by ordinal, without memory until they are touched. A call costs one cache line, so counts are bytes: a hundred
# thousand versions in use stay in the second-level cache. Each 256th call of a version carries.
ctypedef struct set_t:
    uint8_t* counts            # of VALID; 4 GiB behind it, of what was refused
    uint32_t* carries          # two for each version, of 256 each
    uint8_t* groups            # for 4,096 versions: what of them has counts; see _usage.pyx

# One call of a version that is watched.
ctypedef struct watched_t:
    int64_t second
    uint32_t ordinal
    uint8_t verdict
    uint8_t has_address
    uint8_t address[16]

# Fields are written by one side each, as in a mailbox.
ctypedef struct usage_t:
    set_t used                 # by the loop: the set that it counts in
    uint8_t* delayed[DELAYED]
    uint32_t at
    uint8_t nowhere            # what `delayed` points to at first
    int64_t asked              # by the drainer: exchanges that it wants
    int64_t made               # by the loop: exchanges that were made
    int64_t put                # by the loop: watched calls
    int64_t taken              # by the drainer
    int64_t lost               # by the loop: watched calls for which there was no room
    set_t sets[2]
    watched_t seen[SEEN]
    watched_t ring[WATCHED_MAX]

cdef extern from *:
    """
    /* The empty asm keeps it, as in _lookup.pxd. */
    #define verifier_prefetch_to_write(address) do { __builtin_prefetch(address, 1); __asm__ volatile (""); } while (0)
    """
    void verifier_prefetch_to_write(void* address) noexcept nogil

# NULL when there is no memory, or no address space.
cdef usage_t* usage_new() noexcept nogil
cdef void usage_free(usage_t* usage) noexcept nogil
# By whoever counts, between calls.
cdef void usage_exchange(usage_t* usage) noexcept nogil
cdef void usage_carry(usage_t* usage, uint8_t* counter) noexcept nogil
# `address`: 16 bytes, or NULL.
cdef void usage_watch(usage_t* usage, uint32_t ordinal, int verdict, const uint8_t* address, int64_t now_s) noexcept nogil


cdef inline void usage_turn(usage_t* usage) noexcept nogil:
    # At the beginning of each turn.
    if load_i64(&usage.asked) != usage.made:
        usage_exchange(usage)


cdef inline void usage_count(usage_t* usage, uint32_t ordinal, bint refused) noexcept nogil:
    # The count itself is a cache line that nobody has touched lately. It is asked for here and changed 16 calls later,
    # when it has arrived.
    cdef uint8_t* counter = usage.used.counts + (<uint64_t>refused << 32 | ordinal)
    cdef uint8_t* due = usage.delayed[usage.at]
    verifier_prefetch_to_write(counter)
    usage.used.groups[ordinal >> GROUP_SHIFT] |= <uint8_t>(1 << refused)
    usage.delayed[usage.at] = counter
    usage.at = (usage.at + 1) & (DELAYED - 1)
    due[0] += 1
    if due[0] == 0:
        usage_carry(usage, due)


cdef class Usage:
    cdef usage_t* usage
    cdef int64_t drained       # exchanges whose set was drained
