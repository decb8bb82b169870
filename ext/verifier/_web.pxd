# Plain HTTP requests, whatever transport brought them: which there are, and the answer to each.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._head cimport field_t
from verifier._page cimport page_t
from verifier._transport cimport service_t

cdef enum:
    WEB_NONE = 0               # no such path
    WEB_AUTHZ = 1              # /v1/authz
    WEB_VERIFY = 2             # /v1/verify

    WEB_BODY_BYTES_MAX = 65536 # of a request; what is more ends the connection

# What is kept of a request until its body is there.
ctypedef struct web_t:
    int path
    int refusal                # HTTP status to refuse it with, 0 for none
    bint is_head               # the answer goes without its body
    bint wants_body            # it cannot be answered before its body is there
    uint8_t* query             # of its target, without the question mark; good as long as its head
    size_t query_length

# WEB_*, of a target with or without a query.
cdef int web_path(const uint8_t* target, size_t length) noexcept nogil
# The head has arrived. Its query is written into.
cdef void web_begin(web_t* web, const uint8_t* method, size_t method_length, uint8_t* target, size_t target_length,
                    const field_t* fields, int field_count) noexcept nogil
# Answers a request that wants no body, while its head is still there.
cdef void web_answer(service_t* service, web_t* web, const field_t* fields, int field_count, page_t* page) noexcept nogil
# Answers one that does. The body is written into.
cdef void web_answer_body(service_t* service, web_t* web, uint8_t* body, size_t length, page_t* page) noexcept nogil
# The time of the turn as `Date` has it, DATE_BYTES long; every answer has it (RFC 9110, section 6.6.1).
cdef const uint8_t* web_date(service_t* service) noexcept nogil
# Answers one that is refused by its transport.
cdef void web_refuse(service_t* service, web_t* web, int status, const char* detail, page_t* page) noexcept nogil
