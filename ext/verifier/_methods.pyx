"""Which method answers which path, how it is counted, and how large its requests may be.

The methods themselves know nothing of paths, streams or sockets: another one needs a line here.
"""

from libc.string cimport strlen

from verifier._echo cimport echo
from verifier._envoy cimport check_begin, check_finish, check_prefetch
from verifier._health cimport health_check
from verifier._service cimport (
    METHOD_CHECK, METHOD_HEALTH, METHOD_OTHER, METHOD_VERIFY, METHOD_VERIFY_BATCH, method_t, stages_t,
)
from verifier._verify cimport verify_batch, verify_begin, verify_finish, verify_prefetch

cdef enum:
    # A key of 512 bytes, 64 scopes of 128 and an address, with room for fields of later versions.
    VERIFY_BYTES_MAX = 32768
    HEALTH_BYTES_MAX = 4096


cdef void add(routes_t* routes, const char* path, method_t method, int number, size_t message_bytes_max) noexcept nogil:
    routes.routes[routes.count].path = path
    routes.routes[routes.count].path_length = strlen(path)
    routes.routes[routes.count].method = method
    routes.routes[routes.count].number = number
    routes.routes[routes.count].message_bytes_max = message_bytes_max
    routes.count += 1


cdef size_t least(size_t one, size_t other) noexcept nogil:
    return one if one < other else other


cdef void add_service(routes_t* routes, size_t message_bytes_max) noexcept nogil:
    cdef stages_t* stages = &routes.routes[routes.count].stages
    add(routes, b"/verifier.v1.VerifierService/Verify", NULL, METHOD_VERIFY, least(VERIFY_BYTES_MAX, message_bytes_max))
    stages.begin = verify_begin
    stages.prefetch = verify_prefetch
    stages.finish = verify_finish
    add(routes, b"/verifier.v1.VerifierService/VerifyBatch", verify_batch, METHOD_VERIFY_BATCH, message_bytes_max)
    add(routes, b"/grpc.health.v1.Health/Check", health_check, METHOD_HEALTH,
        least(HEALTH_BYTES_MAX, message_bytes_max))


cdef void add_gateways(routes_t* routes, size_t message_bytes_max) noexcept nogil:
    cdef stages_t* stages = &routes.routes[routes.count].stages
    # All headers of the caller's request, and as much of its body as Envoy is told to send.
    add(routes, b"/envoy.service.auth.v3.Authorization/Check", NULL, METHOD_CHECK, message_bytes_max)
    stages.begin = check_begin
    stages.prefetch = check_prefetch
    stages.finish = check_finish


cdef void add_echo(routes_t* routes, size_t message_bytes_max) noexcept nogil:
    add(routes, b"/verifier.test.Echo/Echo", echo, METHOD_OTHER, message_bytes_max)
