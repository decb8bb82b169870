"""Tunnels that a caller may ask for: nobody looks at what is sent through them, identities included."""

import pytest

from tests.gateways.conftest import Running
from tests.gateways.support.calling import Headers, by_key, call
from tests.gateways.support.keys import Issued

pytestmark = pytest.mark.gateways

SETTINGS = ("HTTP2-Settings", "AAMAAABkAAQAAP__")


@pytest.fixture(scope="module")
def good(stage) -> Issued:
    """A key that may read."""
    key = stage.keys.issue()
    stage.publish()
    return key


@pytest.mark.parametrize("upgrade", [["h2c"], ["H2C"], ["websocket", "h2c"], ["h2c", "websocket"], ["h2c, websocket"]])
def test_no_application_is_asked_for_http2_in_the_same_connection(running: Running, good: Issued, upgrade: list[str]):
    """An application that knew h2c would take requests from it that no gateway has seen."""
    asked: Headers = [("Connection", "Upgrade, HTTP2-Settings"), SETTINGS, *[("Upgrade", name) for name in upgrade]]
    answer = call(running.port, "/", [*asked, *by_key(good.token)])
    if answer.status == 200:
        upgrades = [value for name, value in answer.arrived["headers"] if name == "upgrade"]
        assert not any("h2c" in value.lower() for value in upgrades), upgrades
    else:
        assert 400 <= answer.status < 500, answer


def test_connect_opens_no_tunnel(running: Running, good: Issued):
    """HAProxy would make a tunnel of it if the application agreed, so it refuses; the application here never does."""
    status = call(running.port, f"127.0.0.1:{running.port}", by_key(good.token), method="CONNECT").status
    assert status in ({405} if running.gateway.name == "haproxy" else {400, 404, 501})
