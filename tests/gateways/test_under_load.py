"""Keys rotated and revoked while callers call through a gateway: nobody with a good key is refused."""

import threading
import time
from http.client import HTTPException

import pytest

from tests.gateways.conftest import Running
from tests.gateways.support.calling import Caller, by_key
from tests.gateways.support.keys import Issued

pytestmark = pytest.mark.gateways

ROUNDS = 12
REVOKED_WITHIN_S = 1.0


class Customer:
    """A caller that calls without pause with the token that it has at the time."""

    def __init__(self, port: int, key: Issued) -> None:
        self.key = key
        self.statuses: list[tuple[float, int | str]] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with Caller(self._port) as caller:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    self.statuses.append((begun, caller.call("/load", by_key(self.key.token)).status))
                except (OSError, HTTPException) as fault:
                    self.statuses.append((begun, repr(fault)))
                    return

    def stop(self) -> list[tuple[float, int | str]]:
        """End, and return when which status came."""
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.statuses


def test_rotation_and_swaps_fail_no_call_and_a_revocation_is_served_within_a_second(running: Running):
    keys, stage = running.stage.keys, running.stage
    issued = [keys.issue() for _ in range(ROUNDS)]
    doomed = keys.issue()
    stage.publish()
    customers = [Customer(running.port, key) for key in issued[:3]]
    thief = Customer(running.port, doomed)
    for number, key in enumerate(issued):
        customer = customers[number % len(customers)]
        customer.key = key
        rotated = keys.rotate(key)
        stage.publish(rebase=number % 4 == 3)
        customer.key = rotated
    keys.revoke(doomed)
    keys.publish()
    published = time.monotonic()
    time.sleep(2 * REVOKED_WITHIN_S)
    found = [customer.stop() for customer in customers]
    assert {200} == {status for statuses in found for _, status in statuses}
    assert min(map(len, found)) > 50
    late = [status for at, status in thief.stop() if at > published + REVOKED_WITHIN_S]
    assert {401} == set(late) and 200 in {status for _, status in thief.statuses}
