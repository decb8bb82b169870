# Plain requests on a stream of HTTP/2: their headers are kept until the request is complete, then _web answers.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._session cimport session_t
from verifier._transport cimport call_t, service_t

# Keeps a field, and counts what it takes in `held`. False: there is no room for it.
cdef bint plain_keep(service_t* service, call_t* call, size_t* held, const uint8_t* name, size_t name_length,
                     const uint8_t* value, size_t value_length) noexcept nogil
cdef void plain_drop(service_t* service, call_t* call, size_t* held) noexcept nogil
cdef void plain_answer(session_t* session, call_t* call) noexcept nogil
