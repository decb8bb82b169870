# Which method answers which path.

from libc.stddef cimport size_t

from verifier._transport cimport routes_t

# What a node serves. `message_bytes_max`: the largest request message of any method.
cdef void add_service(routes_t* routes, size_t message_bytes_max) noexcept nogil
# For gateways, where turn.authz is set.
cdef void add_gateways(routes_t* routes, size_t message_bytes_max) noexcept nogil
# The echo method, for tests and for measuring the bare transport.
cdef void add_echo(routes_t* routes, size_t message_bytes_max) noexcept nogil
