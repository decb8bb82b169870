# The bytes of a keyring file in memory: sealed memory, a mapped file, or bytes (tests).

from libc.stdint cimport uint8_t, uint64_t

cdef class Map:
    cdef const uint8_t* data
    cdef uint64_t size
    cdef object _keep          # the bytes object that owns the memory, if any
    cdef int _fd               # the memfd, -1 otherwise
    cdef readonly str source   # "sealed", "mapped" or "bytes"

    cdef int _attach(self, int fd, uint64_t size) except -1
