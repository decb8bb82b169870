"""Gateways with two nodes, one of which is stopped and comes back: callers should not notice."""

import signal
import time
from collections import Counter

import pytest

from tests.gateways.conftest import start
from tests.gateways.support.gateways import VERIFIER_GRPC, VERIFIER_HTTP, Change, Gateway
from tests.gateways.support.keys import Keys
from tests.gateways.support.stage import Stage
from tests.gateways.test_under_load import Customer

pytestmark = pytest.mark.gateways

# How the pages say that a second node is added.
ENDPOINT = "        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}\n"
SECOND = {
    "envoy": (ENDPOINT, VERIFIER_GRPC),
    "nginx": ("        server 127.0.0.1:{};\n", VERIFIER_HTTP),
    "haproxy": ("    server node 127.0.0.1:{}\n", VERIFIER_HTTP),
}
# Envoy may lose what it was sending when the connection was taken back.
LOST_MAX = {"envoy": 3}


def second_node(gateway: Gateway, other: Stage) -> Change:
    """The line for a second node beside that of the first."""
    if gateway.name == "caddy":
        first = f"reverse_proxy 127.0.0.1:{VERIFIER_HTTP}"
        return f"{first} {{", f"{first} 127.0.0.1:{other.ports[VERIFIER_HTTP]} {{"
    line, port = SECOND[gateway.name]
    first = line.format(port)
    return first, first + line.format(other.ports[port]).replace("server node", "server other")


def test_a_node_may_be_restarted_under_load(gateway: Gateway, keys: Keys, tmp_path):
    if gateway.name == "traefik":
        pytest.skip("traefik asks one address")
    key = keys.issue()
    one, other = Stage(keys), Stage(keys)
    one.publish()
    other.publish()
    try:
        with start(gateway, one, tmp_path, second_node(gateway, other)) as program:
            customers = [Customer(program.port, key) for _ in range(3)]
            time.sleep(1)
            one.node.signal(signal.SIGTERM)
            assert 0 == one.node.process.wait(30)
            time.sleep(1)
            one.start_node()
            time.sleep(1)
            found = Counter(status for customer in customers for _, status in customer.stop())
        assert found[200] > 300
        assert found.total() - found[200] <= LOST_MAX.get(gateway.name, 0), found
    finally:
        one.close()
        other.close()
