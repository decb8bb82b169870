# Verifications by version as plain rows, for reports: what a loop has counted, drained, and added up.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

ctypedef struct use_t:
    uint32_t ordinal           # of the version, as in its record
    uint32_t valid
    uint32_t refused

cdef class Uses:
    cdef use_t* rows           # ascending by ordinal; several of one ordinal only where its counts do not fit one row
    cdef size_t first          # rows before this one were taken
    cdef size_t count

# Rows for the caller to fill. NULL when there is no memory; not NULL when `count` is 0.
cdef use_t* rows_new(size_t count) noexcept nogil
# Takes rows over, which came from rows_new.
cdef Uses uses_of(use_t* rows, size_t count)
