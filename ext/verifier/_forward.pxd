# Forward-auth: what a gateway asks by plain HTTP of a request that it holds back.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._head cimport field_t
from verifier._page cimport page_t
from verifier._transport cimport service_t

# Answers into `page`; returns the gRPC status to count it under. The query, of the gateway's own request, is written into.
cdef int forward_answer(service_t* service, uint8_t* query, size_t query_length, const field_t* fields, int field_count,
                        page_t* page) noexcept nogil
