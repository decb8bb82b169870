"""Token checksum and tag: CRC-32, SHA-256 and HMAC-SHA-256 from saved states.

A tag costs three SHA-256 blocks beyond the two that are saved with the pepper: one for a token of up to 55 bytes, one
for the inner and one for the outer hash of HMAC (RFC 2104). The checksum is CRC-32 (IEEE 802.3), sliced by eight.
"""

from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from verifier.openssl cimport SHA256_Final, SHA256_Init, SHA256_Update

cdef enum:
    BLOCK_BYTES = 64
    PEPPERS_MAX = 4

cdef uint32_t CRC[8][256]
cdef const uint8_t* BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


cdef void crc_tables() noexcept nogil:
    cdef uint32_t value
    cdef int byte, bit, table
    for byte in range(256):
        value = byte
        for bit in range(8):
            value = (value >> 1) ^ (0xEDB88320u if value & 1 else 0)
        CRC[0][byte] = value
    for byte in range(256):
        for table in range(1, 8):
            value = CRC[table - 1][byte]
            CRC[table][byte] = (value >> 8) ^ CRC[0][value & 0xFF]


crc_tables()


cdef uint32_t crc32(const uint8_t* data, size_t length) noexcept nogil:
    cdef uint32_t crc = 0xFFFFFFFFu, low, high
    while length >= 8:
        memcpy(&low, data, 4)
        memcpy(&high, data + 4, 4)
        low ^= crc
        crc = (CRC[7][low & 0xFF] ^ CRC[6][(low >> 8) & 0xFF] ^ CRC[5][(low >> 16) & 0xFF] ^ CRC[4][low >> 24]
               ^ CRC[3][high & 0xFF] ^ CRC[2][(high >> 8) & 0xFF] ^ CRC[1][(high >> 16) & 0xFF] ^ CRC[0][high >> 24])
        data += 8
        length -= 8
    while length:
        crc = (crc >> 8) ^ CRC[0][(crc ^ data[0]) & 0xFF]
        data += 1
        length -= 1
    return crc ^ 0xFFFFFFFFu


cdef void checksum_of(const uint8_t* data, size_t length, uint8_t* digits) noexcept nogil:
    cdef uint32_t value = crc32(data, length)
    cdef int at
    for at in range(CHECKSUM_DIGITS - 1, -1, -1):
        digits[at] = BASE62[value % 62]
        value //= 62


cdef void pepper_init(pepper_t* pepper, const uint8_t* secret, size_t length) noexcept nogil:
    cdef uint8_t block[BLOCK_BYTES]
    cdef uint8_t digest[TAG_BYTES]
    cdef SHA256_CTX ctx
    cdef int i
    memset(block, 0, BLOCK_BYTES)
    if length <= BLOCK_BYTES:
        memcpy(block, secret, length)
    else:
        SHA256_Init(&ctx)
        SHA256_Update(&ctx, secret, length)
        SHA256_Final(digest, &ctx)
        memcpy(block, digest, TAG_BYTES)
    for i in range(BLOCK_BYTES):
        block[i] ^= 0x36
    SHA256_Init(&pepper.inner)
    SHA256_Update(&pepper.inner, block, BLOCK_BYTES)
    for i in range(BLOCK_BYTES):
        block[i] ^= 0x36 ^ 0x5C
    SHA256_Init(&pepper.outer)
    SHA256_Update(&pepper.outer, block, BLOCK_BYTES)


cdef void tag_of_digest(const pepper_t* peppers, int count, const uint8_t* digest, uint8_t* tag) noexcept nogil:
    cdef uint8_t value[TAG_BYTES]
    cdef SHA256_CTX ctx
    cdef int layer
    memcpy(value, digest, TAG_BYTES)
    for layer in range(count):
        ctx = peppers[layer].inner
        SHA256_Update(&ctx, value, TAG_BYTES)
        SHA256_Final(value, &ctx)
        ctx = peppers[layer].outer
        SHA256_Update(&ctx, value, TAG_BYTES)
        SHA256_Final(value, &ctx)
    memcpy(tag, value, TAG_BYTES)


cdef void tag_of_token(const pepper_t* peppers, int count, const uint8_t* token, size_t length,
                       uint8_t* tag) noexcept nogil:
    cdef uint8_t digest[TAG_BYTES]
    cdef SHA256_CTX ctx
    SHA256_Init(&ctx)
    SHA256_Update(&ctx, token, length)
    SHA256_Final(digest, &ctx)
    tag_of_digest(peppers, count, digest, tag)


# --- Python ----------------------------------------------------------------------------------------------------------

def crc32_of(bytes data not None) -> int:
    """Return the CRC-32 (IEEE) of `data`."""
    return crc32(<const uint8_t*><const char*>data, len(data))


def checksum(bytes data not None) -> bytes:
    """Return the six base62 digits of the CRC-32 of `data`."""
    cdef uint8_t digits[CHECKSUM_DIGITS]
    checksum_of(<const uint8_t*><const char*>data, len(data), digits)
    return digits[:CHECKSUM_DIGITS]


cdef class Tagger:
    """Computes tags under one to four peppers, each a layer of HMAC over the one before.

    Args:
        peppers: the secrets, in the order of the keyring's header.
    """

    cdef pepper_t peppers[PEPPERS_MAX]
    cdef int count

    def __init__(self, peppers):
        cdef bytes secret
        self.count = 0
        if not 1 <= len(peppers) <= PEPPERS_MAX:
            raise ValueError(f"1 to {PEPPERS_MAX} peppers are needed, not {len(peppers)}")
        for secret in peppers:
            pepper_init(&self.peppers[self.count], <const uint8_t*><const char*>secret, len(secret))
            self.count += 1

    def tag(self, bytes token not None) -> bytes:
        """Return the 32-byte tag of a token."""
        cdef uint8_t tag[TAG_BYTES]
        tag_of_token(self.peppers, self.count, <const uint8_t*><const char*>token, len(token), tag)
        return tag[:TAG_BYTES]

    def tag_of_digest(self, bytes digest not None) -> bytes:
        """Return the 32-byte tag of a token of which only the SHA-256 is known."""
        cdef uint8_t tag[TAG_BYTES]
        if len(digest) != TAG_BYTES:
            raise ValueError("a SHA-256 digest has 32 bytes")
        tag_of_digest(self.peppers, self.count, <const uint8_t*><const char*>digest, tag)
        return tag[:TAG_BYTES]

    def measure_ns(self, int rounds=2000) -> float:
        """Return the time of one tag of a 50-byte token, in nanoseconds: above 300, SHA instructions are missing."""
        cdef timespec begin, end
        cdef uint8_t tag[TAG_BYTES]
        cdef uint8_t token[50]
        cdef int i
        memset(token, 0x41, 50)
        with nogil:
            clock_gettime(CLOCK_MONOTONIC, &begin)
            for i in range(rounds):
                tag_of_token(self.peppers, self.count, token, 50, tag)
                token[0] = tag[0] & 0x7F
            clock_gettime(CLOCK_MONOTONIC, &end)
        return ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / rounds
