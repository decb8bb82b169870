"""A locust user who asks a node over gRPC whether keys are good.

    locust -f loadtest/locustfile.py --headless -u 50 -r 50 -t 30s --tokens tokens.txt --host 127.0.0.1:50051

``--tokens`` is a file with one token a line, as `verifier key create --count N --output tokens.txt` writes it; each
call takes one at random. ``--host`` is the node's gRPC address: host:port or unix:path. Several processes
(``--processes -1``) are needed to load a node: one Python process makes a few thousand calls a second, one core of a
node answers a few hundred thousand. So use this for scenarios; `loadtest/` has other tools for capacity and latency.

A refusal is a normal answer and counts as success, under its verdict's name ("Verify REVOKED"); faults count as
failures. Nothing here names a token in a report.
"""

import random
import time
from pathlib import Path
from typing import Any

import grpc.experimental.gevent
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

# grpcio's core waits in C; without this every call would stop all users of the process.
grpc.experimental.gevent.init_gevent()

from verifier.client import VerifierClient  # noqa: E402 (after gevent has been told)
from verifier.errors import VerifierError  # noqa: E402

BATCH = 100


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--tokens", required=True, help="file with one token a line")
    parser.add_argument("--scopes", default="", help="scopes to require, separated by commas")
    parser.add_argument("--call-timeout", type=float, default=1.0, help="seconds")
    parser.add_argument("--probe", type=int, default=0, help="1: have the calls counted as probes")


class Caller(User):  # type: ignore[misc]
    """A gateway with one connection: nearly always one key a call, now and then a batch, now and then garbage."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options: Any = environment.parsed_options
        self.tokens = _tokens(options.tokens)
        self.scopes = [scope for scope in options.scopes.split(",") if scope]
        self.probe = bool(options.probe)
        # A pool of subchannels of its own: else all users of a process would share one connection.
        self.client = VerifierClient(
            environment.host or "127.0.0.1:50051", timeout_s=options.call_timeout,
            options=[("grpc.use_local_subchannel_pool", 1)],
        )

    def on_stop(self) -> None:
        """Close the connection."""
        self.client.close()

    @task(100)
    def verify(self) -> None:
        """Ask about one key."""
        self._measured("Verify", lambda: [self.client.verify(
            random.choice(self.tokens), self.scopes, probe=self.probe
        )])

    @task(2)
    def verify_garbage(self) -> None:
        """Ask about a key that is none."""
        self._measured("Verify", lambda: [self.client.verify("vk_live_not-a-key", self.scopes, probe=self.probe)])

    @task(1)
    def verify_batch(self) -> None:
        """Ask about many keys at once."""
        self._measured("VerifyBatch", lambda: self.client.verify_batch(random.choices(self.tokens, k=BATCH)))

    def _measured(self, method: str, call: Any) -> None:
        """Report one call to locust."""
        started = time.perf_counter()
        name, size, fault = method, 0, None
        try:
            answers = call()
            size = sum(len(answer.response) for answer in answers)
            if method == "Verify":
                name = f"{method} {answers[0].verdict.name}"
        except VerifierError as error:
            fault = error
        self.environment.events.request.fire(
            request_type="grpc", name=name, response_time=(time.perf_counter() - started) * 1000,
            response_length=size, exception=fault, context={},
        )


_TOKENS: dict[str, list[str]] = {}


def _tokens(path: str) -> list[str]:
    """Read the file once for all users of the process."""
    if path not in _TOKENS:
        _TOKENS[path] = Path(path).read_text().split()
    return _TOKENS[path]
