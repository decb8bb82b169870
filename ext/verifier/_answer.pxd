# The typed result of a verification, for callers over gRPC and in-process alike.

cimport cython
from libc.stdint cimport int64_t

@cython.final
cdef class Answer:
    cdef readonly bytes response       # VerifyResponse as on the wire
    cdef int _verdict
    cdef int _phase
    cdef readonly int64_t revision
    cdef readonly int64_t staleness_ms
    cdef object _message               # the response decoded, once a field of the record is asked for

    cdef object message(self)
    cdef object moment(self, str field)
