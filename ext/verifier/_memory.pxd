# Memory of one loop: blocks in classes of 64 bytes on free lists. Not for use by two threads.

from libc.stddef cimport size_t

from verifier.nghttp2 cimport nghttp2_mem

cdef enum:
    CLASS_BYTES = 64
    CLASSES = 65               # blocks of up to 4,096 bytes, their head included; class 0 is the C library's
    KEPT_BYTES_MAX = 8388608   # beyond this, freed blocks go back to the C library

ctypedef struct block_t:
    size_t class_of            # 0: too large for a class
    block_t* next              # while it is free; two words, so that what follows is aligned for any type

ctypedef struct pool_t:
    block_t* free[CLASSES]
    size_t kept_bytes          # on the free lists

cdef void* pool_take(pool_t* pool, size_t size) noexcept nogil
cdef void* pool_resize(pool_t* pool, void* memory, size_t size) noexcept nogil
cdef void pool_give(pool_t* pool, void* memory) noexcept nogil
# Gives all free blocks back; blocks in use stay the caller's.
cdef void pool_clear(pool_t* pool) noexcept nogil
# Lets nghttp2 allocate from the pool.
cdef void pool_serve(pool_t* pool, nghttp2_mem* memory) noexcept nogil
