# SHA-256 of OpenSSL's libcrypto. The low-level calls are deprecated since 3.0 but present in every 3.x; through EVP
# the same digest costs about 150 ns more per call. This is the only file that names them.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef extern from *:
    """
    #define OPENSSL_SUPPRESS_DEPRECATED
    #include <openssl/sha.h>
    """
    ctypedef struct SHA256_CTX:
        pass
    int SHA256_Init(SHA256_CTX* ctx) nogil
    int SHA256_Update(SHA256_CTX* ctx, const void* data, size_t length) nogil
    int SHA256_Final(uint8_t* digest, SHA256_CTX* ctx) nogil
