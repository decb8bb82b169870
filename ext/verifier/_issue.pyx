"""Makes tokens, their tags, and key ids by the hundred thousand.

Randomness comes from getrandom(2) only. A base62 digit is six random bits, thrown away when they are 62 or 63, so
that every digit is equally likely. ``verifier.tokens`` is the plain form of the same and the oracle in the tests.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from verifier._tag cimport CHECKSUM_DIGITS, TAG_BYTES, checksum_of, pepper_init, pepper_t, tag_of_token

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void* buffer, size_t length, unsigned int flags)

cdef extern from "<string.h>" nogil:
    void explicit_bzero(void* data, size_t length)

cdef enum:
    SECRET_DIGITS = 27
    POOL_BYTES = 4096
    PREFIX_BYTES_MAX = 32
    PEPPERS_MAX = 4
    KEY_ID_DIGITS = 16         # 80 random bits: two of 10 million keys agree once in 10^10 registries, and are refused

cdef const uint8_t* BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Crockford's base32 in lower case: no i, l, o, u, so that a key id survives being read out.
cdef const uint8_t* BASE32 = b"0123456789abcdefghjkmnpqrstvwxyz"

ctypedef struct pool_t:
    uint8_t data[POOL_BYTES]
    size_t left


cdef int pool_fill(pool_t* pool) noexcept nogil:
    cdef size_t done = 0
    cdef ssize_t got
    while done < POOL_BYTES:
        got = getrandom(pool.data + done, POOL_BYTES - done, 0)
        if got < 0:
            if errno == EINTR:
                continue
            return -1
        done += <size_t>got
    pool.left = POOL_BYTES
    return 0


cdef int digits_of(pool_t* pool, const uint8_t* alphabet, uint8_t mask, uint8_t below, uint8_t* out,
                   int count) noexcept nogil:
    cdef uint8_t value
    while count:
        if pool.left == 0 and pool_fill(pool) != 0:
            return -1
        pool.left -= 1
        value = pool.data[pool.left] & mask
        if value < below:
            out[0] = alphabet[value]
            out += 1
            count -= 1
    return 0


cdef int fill_tokens(pool_t* pool, const uint8_t* prefix, size_t prefix_length, const pepper_t* peppers,
                     int pepper_count, uint8_t* lines, uint8_t* tags, size_t count) noexcept nogil:
    cdef size_t at, head = prefix_length + 1 + SECRET_DIGITS, length = head + CHECKSUM_DIGITS
    for at in range(count):
        memcpy(lines, prefix, prefix_length)
        lines[prefix_length] = c"_"
        if digits_of(pool, BASE62, 63, 62, lines + prefix_length + 1, SECRET_DIGITS) != 0:
            return -1
        checksum_of(lines, head, lines + head)
        lines[length] = c"\n"
        tag_of_token(peppers, pepper_count, lines, length, tags)
        lines += length + 1
        tags += TAG_BYTES
    return 0


# --- Python ----------------------------------------------------------------------------------------------------------

def make_tokens(bytes prefix not None, size_t count, peppers):
    """Make tokens and their tags.

    Args:
        prefix: checked by the caller.
        count: how many.
        peppers: the secrets, in the order of their layers.

    Returns:
        The tokens, one a line, each line as long as the others; and the list of their tags.
    """
    cdef pepper_t states[PEPPERS_MAX]
    cdef pool_t pool
    cdef size_t prefix_length = len(prefix), line = prefix_length + 1 + SECRET_DIGITS + CHECKSUM_DIGITS + 1
    cdef int pepper_count = 0, failed
    cdef size_t at
    cdef bytes secret
    if not 1 <= prefix_length <= PREFIX_BYTES_MAX:
        raise ValueError("the prefix has 1 to 32 bytes")
    if not 1 <= len(peppers) <= PEPPERS_MAX:
        raise ValueError(f"1 to {PEPPERS_MAX} peppers are needed, not {len(peppers)}")
    for secret in peppers:
        pepper_init(&states[pepper_count], <const uint8_t*>PyBytes_AS_STRING(secret), len(secret))
        pepper_count += 1
    lines = PyBytes_FromStringAndSize(NULL, count * line)
    tags = PyBytes_FromStringAndSize(NULL, count * TAG_BYTES)
    cdef uint8_t* lines_data = <uint8_t*>PyBytes_AS_STRING(lines)
    cdef uint8_t* tags_data = <uint8_t*>PyBytes_AS_STRING(tags)
    cdef const uint8_t* prefix_data = <const uint8_t*>PyBytes_AS_STRING(prefix)
    pool.left = 0
    with nogil:
        failed = fill_tokens(&pool, prefix_data, prefix_length, states, pepper_count, lines_data, tags_data, count)
        explicit_bzero(&pool, sizeof(pool))
        explicit_bzero(states, sizeof(states))
    if failed:
        raise OSError(errno, "getrandom failed")
    return lines, [PyBytes_FromStringAndSize(<char*>tags_data + at * TAG_BYTES, TAG_BYTES) for at in range(count)]


def make_key_ids(size_t count):
    """Make public key ids: ``key_`` and 80 random bits, which have nothing to do with any secret."""
    cdef pool_t pool
    cdef uint8_t text[4 + KEY_ID_DIGITS]
    cdef size_t at
    memcpy(text, b"key_", 4)
    pool.left = 0
    made = []
    for at in range(count):
        if digits_of(&pool, BASE32, 31, 32, text + 4, KEY_ID_DIGITS) != 0:
            raise OSError(errno, "getrandom failed")
        made.append((<char*>text)[:4 + KEY_ID_DIGITS].decode("ascii"))
    return made
