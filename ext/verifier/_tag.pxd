# Token checksum and tag: CRC-32, SHA-256 and HMAC-SHA-256 from saved states.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from verifier.openssl cimport SHA256_CTX

cdef enum:
    TAG_BYTES = 32
    TAG_HEAD_BYTES = 16
    CHECKSUM_DIGITS = 6

ctypedef struct pepper_t:
    SHA256_CTX inner           # after the block key XOR ipad
    SHA256_CTX outer           # after the block key XOR opad

cdef void pepper_init(pepper_t* pepper, const uint8_t* secret, size_t length) noexcept nogil
# tag = layers of HMAC over the SHA-256 of the token.
cdef void tag_of_token(const pepper_t* peppers, int count, const uint8_t* token, size_t length,
                       uint8_t* tag) noexcept nogil
cdef void tag_of_digest(const pepper_t* peppers, int count, const uint8_t* digest, uint8_t* tag) noexcept nogil
# CRC-32 (IEEE) of data.
cdef uint32_t crc32(const uint8_t* data, size_t length) noexcept nogil
# Six base62 digits of the CRC-32 of data, left-padded with '0'.
cdef void checksum_of(const uint8_t* data, size_t length, uint8_t* digits) noexcept nogil
