# Lookup in a keyring's offset index (docs/keyring-format.md, "Slots"). Inline: three cache lines a lookup and no call.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from verifier._view cimport keyring_t

cdef enum:
    KEY_BYTES = 16             # the tag head, which lies right before the record
    RECORD_FIXED_BYTES = 52
    RULE_BYTES = 17
    FINGERPRINT_BITS = 20
    # Offsets in the record.
    AT_FLAGS = 16
    AT_REASON = 18
    AT_RULES = 19
    AT_NOT_BEFORE = 20
    AT_END = 24
    AT_SUPERSEDED_AT = 28
    AT_ORDINAL = 40            # of the version, in the registry
    AT_CLIENT = 44
    AT_L1 = 48
    AT_L2 = 50
    # Flags of the record.
    REVOKED_FLAG = 1
    KEY_OFF_FLAG = 2
    WATCH_FLAG = 4
    RULES_FLAG = 8
    ABSENT_FLAG = 16
    KNOWN_FLAGS = 31

cdef extern from *:
    """
    /* The empty asm is what keeps it: gcc takes a function of nothing but prefetches for pure and drops its calls. */
    #define verifier_prefetch(address) do { __builtin_prefetch(address); __asm__ volatile (""); } while (0)
    #define verifier_be64(value) __builtin_bswap64(value)
    """
    void verifier_prefetch(const void* address) noexcept nogil
    uint64_t verifier_be64(uint64_t value) noexcept nogil


cdef inline uint16_t load16(const uint8_t* at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value


cdef inline uint32_t load32(const uint8_t* at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value


cdef inline uint64_t load64(const uint8_t* at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef inline uint64_t first_slot(const keyring_t* keyring, const uint8_t* tag) noexcept nogil:
    return ((verifier_be64(load64(tag)) >> 32) * keyring.slot_count) >> 32


cdef inline void prefetch_slot(const keyring_t* keyring, const uint8_t* tag) noexcept nogil:
    if keyring.slots != NULL:
        verifier_prefetch(&keyring.slots[first_slot(keyring, tag)])


cdef inline void prefetch_record(const keyring_t* keyring, const uint8_t* tag) noexcept nogil:
    # The record that the first slot points to: nearly always the right one.
    cdef uint64_t slot
    if keyring.slots != NULL:
        slot = keyring.slots[first_slot(keyring, tag)]
        if slot != 0:
            verifier_prefetch(keyring.data + (slot >> FINGERPRINT_BITS))
            verifier_prefetch(keyring.data + (slot >> FINGERPRINT_BITS) + 64)
            verifier_prefetch(keyring.data + (slot >> FINGERPRINT_BITS) + 128)


cdef inline const uint8_t* find(const keyring_t* keyring, const uint8_t* tag) noexcept nogil:
    # The record of a tag head, or NULL. Every offset was checked when the keyring was loaded. The head may be compared
    # with an early exit, since tags are keyed: nobody can choose one. The rest must be compared in constant time.
    cdef uint64_t low = load64(tag), high = load64(tag + 8), slot, wanted
    cdef uint64_t at = first_slot(keyring, tag)
    cdef const uint8_t* key
    wanted = verifier_be64(low) & ((1 << FINGERPRINT_BITS) - 1)
    while True:
        slot = keyring.slots[at]
        if slot == 0:
            return NULL
        if slot & ((1 << FINGERPRINT_BITS) - 1) == wanted:
            key = keyring.data + (slot >> FINGERPRINT_BITS)
            if load64(key) == low and load64(key + 8) == high:
                return key + KEY_BYTES
        at += 1
        if at == keyring.slot_count:
            at = 0
