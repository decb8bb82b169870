"""Plain HTTP requests, whatever transport brought them.

`/v1/authz` is what gateways delegate to (_forward); `/v1/verify` is Verify in JSON. Faults are told by HTTP statuses and
never look like a refusal of a key: 400, 404, 405, 413 and 415 for the request, 503 for the node.
"""

from libc.string cimport memchr, memcmp

from verifier._counting cimport count_answer
from verifier._dates cimport put_http_date
from verifier._forward cimport forward_answer
from verifier._head cimport HTTP_BAD_REQUEST, HTTP_OK, HTTP_TOO_LARGE
from verifier._json_answer cimport json_answer, json_answer_bytes_max
from verifier._json_request cimport json_request
from verifier._judge cimport answer_t, judge, request_t
from verifier._page cimport page_begin, page_problem, page_reserve, page_text, page_written
from verifier._service cimport (
    GRPC_INVALID_ARGUMENT, GRPC_OK, GRPC_RESOURCE_EXHAUSTED, GRPC_UNAVAILABLE,
    GRPC_UNIMPLEMENTED, METHOD_AUTHZ, METHOD_JSON, METHOD_OTHER, reply_t, turn_t,
)
from verifier._verify cimport accept, pass_gates

cdef enum:
    NOT_FOUND = 404
    NOT_ALLOWED = 405
    NOT_JSON = 415
    UNAVAILABLE = 503


cdef const char* JSON = b"application/json"


# --- Heads -----------------------------------------------------------------------------------------------------------

cdef inline bint same(const uint8_t* text, size_t length, const char* expected, size_t expected_length) noexcept nogil:
    return length == expected_length and memcmp(text, expected, length) == 0


cdef int web_path(const uint8_t* target, size_t length) noexcept nogil:
    cdef const uint8_t* mark = <const uint8_t*>memchr(target, c'?', length)
    if mark != NULL:
        length = mark - target
    if same(target, length, b"/v1/authz", 9):
        return WEB_AUTHZ
    if same(target, length, b"/v1/verify", 10):
        return WEB_VERIFY
    return WEB_NONE


cdef bint is_json(const field_t* fields, int count) noexcept nogil:
    """application/json, with or without parameters, and nothing else said beside it."""
    cdef const field_t* field
    cdef int i, seen = 0
    cdef size_t at
    cdef uint8_t c
    cdef bint good = False
    for i in range(count):
        field = &fields[i]
        if not same(field.name, field.name_length, b"content-type", 12):
            continue
        seen += 1
        good = field.value_length >= 16
        at = 0
        while good and at < 16:
            c = field.value[at]
            if c'A' <= c <= c'Z':
                c |= 0x20
            good = c == <uint8_t>JSON[at]
            at += 1
        good = good and (field.value_length == 16 or field.value[16] == c';' or field.value[16] == c' ')
    return good and seen == 1


cdef int refusal_of(const web_t* web, bint is_get, bint is_post, const field_t* fields, int count) noexcept nogil:
    if web.path == WEB_NONE:
        return NOT_FOUND
    if web.path == WEB_VERIFY:
        if not is_post:
            return NOT_ALLOWED
        return 0 if is_json(fields, count) else NOT_JSON
    return 0 if is_get or is_post or web.is_head else NOT_ALLOWED


cdef void web_begin(web_t* web, const uint8_t* method, size_t method_length, uint8_t* target, size_t target_length,
                    const field_t* fields, int field_count) noexcept nogil:
    cdef uint8_t* mark = <uint8_t*>memchr(target, c'?', target_length)
    web.path = web_path(target, target_length)
    web.query = target + target_length if mark == NULL else mark + 1
    web.query_length = target + target_length - web.query
    web.is_head = same(method, method_length, b"HEAD", 4)
    web.refusal = refusal_of(web, same(method, method_length, b"GET", 3), same(method, method_length, b"POST", 4),
                             fields, field_count)
    web.wants_body = web.path == WEB_VERIFY and web.refusal == 0


# --- Counting --------------------------------------------------------------------------------------------------------

cdef int rpc_of_status(int status) noexcept nogil:
    """The gRPC status under which a fault is counted."""
    if status == NOT_FOUND or status == NOT_ALLOWED or status == NOT_JSON or status > UNAVAILABLE or status == 501:
        return GRPC_UNIMPLEMENTED
    if status == UNAVAILABLE:
        return GRPC_UNAVAILABLE
    if status == HTTP_TOO_LARGE or status == 431:
        return GRPC_RESOURCE_EXHAUSTED
    return GRPC_INVALID_ARGUMENT


cdef void count(service_t* service, const web_t* web, int rpc_status) noexcept nogil:
    cdef int method = METHOD_OTHER
    if web.path == WEB_AUTHZ:
        method = METHOD_AUTHZ
    elif web.path == WEB_VERIFY:
        method = METHOD_JSON
    service.turn_calls += 1
    service.counters.calls[method][rpc_status] += 1


# --- Answers ---------------------------------------------------------------------------------------------------------

cdef const uint8_t* web_date(service_t* service) noexcept nogil:
    if service.date_s != service.turn.now_s:
        put_http_date(service.date, service.turn.now_s)
        service.date_s = service.turn.now_s
    return service.date


cdef const char* detail_of(int status) noexcept nogil:
    if status == NOT_FOUND:
        return b"There is /v1/authz for gateways and /v1/verify for everybody else."
    if status == NOT_ALLOWED:
        return b"The method does not fit the path."
    if status == NOT_JSON:
        return b"The body must be application/json."
    return b"The request cannot be answered."


cdef void web_refuse(service_t* service, web_t* web, int status, const char* detail, page_t* page) noexcept nogil:
    cdef const char* allow = NULL
    if status == NOT_ALLOWED:
        allow = b"POST"
        if web.path == WEB_AUTHZ:
            allow = b"GET, HEAD, POST"
    page_problem(page, &service.reply, status, detail_of(status) if detail == NULL else detail, allow)
    count(service, web, rpc_of_status(status))


cdef void web_answer(service_t* service, web_t* web, const field_t* fields, int field_count, page_t* page) noexcept nogil:
    if web.refusal == 0 and service.turn.authz == NULL:
        web.refusal = NOT_FOUND
    if web.refusal:
        web_refuse(service, web, web.refusal, NULL, page)
        return
    count(service, web, forward_answer(service, web.query, web.query_length, fields, field_count, page))


cdef void refuse_fault(service_t* service, web_t* web, const reply_t* fault, page_t* page) noexcept nogil:
    """Tell a fault of Verify in HTTP."""
    if fault.status == GRPC_INVALID_ARGUMENT:
        web_refuse(service, web, HTTP_BAD_REQUEST, fault.message, page)
    else:
        web_refuse(service, web, UNAVAILABLE, fault.message, page)


cdef void web_answer_body(service_t* service, web_t* web, uint8_t* body, size_t length, page_t* page) noexcept nogil:
    cdef turn_t* turn = &service.turn
    cdef request_t request
    cdef answer_t answer
    cdef reply_t fault
    cdef uint8_t* room
    fault.status = GRPC_OK
    fault.message = NULL
    if (not accept(&fault, json_request(body, length, &request))
            or not pass_gates(turn, False, request.min_revision, &fault)):
        refuse_fault(service, web, &fault, page)
        return
    judge(turn.view, &request, turn.now_s, &answer)
    page_begin(page, &service.reply, HTTP_OK)
    page_text(page, b"content-type", b"application/json")
    page_text(page, b"cache-control", b"no-store")
    room = page_reserve(page, json_answer_bytes_max(&answer))
    if room != NULL:
        page_written(page, json_answer(room, &answer, turn.view.revision, turn.staleness_ms))
    count_answer(turn.usage, &request, &answer, turn.now_s)
    if not request.probe:
        turn.counters.verdicts[answer.verdict] += 1
    count(service, web, GRPC_OK)
