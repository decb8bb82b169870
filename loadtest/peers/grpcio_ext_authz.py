"""Envoy's external authorization behind grpcio's thread-pool server, with the verdicts of the in-process keyring.

    python -m loadtest.peers.grpcio_ext_authz --store DIR --listen 127.0.0.1:50061

What somebody would write in an afternoon: the key from ``x-api-key``, required scopes from the route, the address of
the caller; identity headers when it is good, 401 or 403 when not. No key in other places, no headers for the caller.
"""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from loadtest.peers._answers import OPTIONS, announce, arguments, open_keyring
from loadtest.peers._ext_authz import METHOD, CheckRequest, CheckResponse
from verifier.errors import InvalidInput, Unavailable
from verifier.vocabulary import Verdict

UNAUTHENTICATED, PERMISSION_DENIED = 16, 7
FORBIDDEN = {Verdict.ADDRESS_NOT_ALLOWED, Verdict.INSUFFICIENT_SCOPE}
OVERWRITE = 2


def check(keyring: Any, request: Any) -> Any:
    """Answer a CheckRequest.

    Raises:
        InvalidInput: the scopes or the address make no sense.
        Unavailable: there is no keyring.
    """
    attributes = request.attributes
    http = attributes.request.http
    keys = [header.raw_value.decode("latin-1") or header.value
            for header in http.header_map.headers if header.key == "x-api-key"]
    keys = keys or [value for name, value in http.headers.items() if name == "x-api-key"]
    if len(keys) != 1:
        return denied(401, UNAUTHENTICATED, "multiple_keys" if keys else "missing_key")
    answer = keyring.verify(keys[0], attributes.context_extensions["required_scopes"].split(),
                            attributes.source.address.socket_address.address or None)
    if answer.verdict in FORBIDDEN:
        return denied(403, PERMISSION_DENIED, answer.verdict.name.lower())
    if answer.verdict != Verdict.VALID:
        return denied(401, UNAUTHENTICATED, answer.verdict.name.lower())
    response = CheckResponse()
    identity = {"client": answer.client_id, "key-id": answer.key_id, "version": answer.version,
                "phase": answer.phase.name, "scopes": " ".join(answer.scopes), "revision": answer.revision}
    for name, value in identity.items():
        option = response.ok_response.headers.add(append_action=OVERWRITE)
        option.header.key, option.header.value = f"x-verifier-{name}", str(value)
    response.ok_response.headers_to_remove.append("x-api-key")
    response.status.code = 0
    return response


def denied(status: int, code: int, reason: str) -> Any:
    """Return a refusal."""
    response = CheckResponse()
    response.status.code = code
    response.denied_response.status.code = status
    response.denied_response.body = f'{{"status":{status},"code":"{reason}"}}\n'
    return response


def make_server(keyring: Any, listen: str, workers: int = 8) -> tuple[grpc.Server, int]:
    """Return a server that is not started yet, and its port."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return check(keyring, request)
        except InvalidInput as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        except Unavailable as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, error.message)

    server = grpc.server(ThreadPoolExecutor(workers), options=OPTIONS)
    _, service, method = METHOD.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=CheckRequest.FromString, response_serializer=CheckResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    return server, server.add_insecure_port(listen)


def main() -> None:
    """Serve until a signal."""
    options = arguments(__doc__ or "")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with open_keyring(options.store) as keyring:
        server, port = make_server(keyring, options.listen, options.workers)
        server.start()
        announce(options.listen, port)
        stop.wait()
        server.stop(0.2).wait()


if __name__ == "__main__":
    main()
