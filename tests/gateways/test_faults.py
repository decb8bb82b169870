"""Gateways whose verifier is gone: nobody gets in, unless the operator said so; and then nobody with an identity."""

import signal
import time

import pytest

from tests.gateways.conftest import start
from tests.gateways.support.calling import by_key, call
from tests.gateways.support.gateways import Gateway
from tests.gateways.support.keys import CLIENT, Keys
from tests.gateways.support.stage import Stage
from tests.gateways.test_gateways import FORGED
from tests.support.node import until

pytestmark = pytest.mark.gateways


@pytest.fixture
def own_stage(keys: Keys):
    """A node that may be killed."""
    started = Stage(keys)
    yield started
    started.close()


def test_without_a_verifier_nobody_is_let_in(gateway: Gateway, own_stage: Stage, tmp_path):
    key = own_stage.keys.issue()
    own_stage.publish()
    with start(gateway, own_stage, tmp_path) as program:
        assert 200 == call(program.port, "/", by_key(key.token)).status
        own_stage.stop_node()
        before = len(own_stage.application.requests)
        begun = time.monotonic()
        for headers in (by_key(key.token), (), FORGED):
            answer = call(program.port, "/", headers)
            assert answer.status in ({500, 502, 503} if gateway.name == "traefik" else {503}), answer
        assert time.monotonic() - begun < 3
        assert before == len(own_stage.application.requests)
        own_stage.start_node()
        until(lambda: call(program.port, "/", by_key(key.token)).status == 200, timeout_s=15)


def test_a_verifier_that_hangs_holds_nobody_up(gateway: Gateway, own_stage: Stage, tmp_path):
    if gateway.name == "traefik":
        pytest.skip("traefik waits for 30 s, which cannot be changed")
    key = own_stage.keys.issue()
    own_stage.publish()
    with start(gateway, own_stage, tmp_path) as program:
        assert 200 == call(program.port, "/", by_key(key.token)).status
        own_stage.node.signal(signal.SIGSTOP)
        until(own_stage.is_stopped)
        begun = time.monotonic()
        assert 503 == call(program.port, "/", by_key(key.token)).status
        assert time.monotonic() - begun < 2
        own_stage.node.signal(signal.SIGCONT)
        until(lambda: call(program.port, "/", by_key(key.token)).status == 200, timeout_s=15)


def test_a_node_without_keys_refuses_nobody_and_lets_nobody_in(gateway: Gateway, tmp_path):
    """It answers, but it knows nothing: that must not look like a refusal of the key."""
    keys = Keys(tmp_path / "store")
    empty = Stage(keys)
    (tmp_path / "gateway").mkdir()
    try:
        with start(gateway, empty, tmp_path / "gateway") as program:
            for headers in (by_key("vk_live_nonsense"), FORGED, ()):
                assert 503 == call(program.port, "/", headers).status, headers
            assert [] == empty.application.requests
            key = keys.issue()
            empty.publish()
            until(lambda: call(program.port, "/", by_key(key.token)).status == 200, timeout_s=15)
    finally:
        empty.close()
        keys.close()


def test_only_an_operator_can_let_callers_in_without_a_verifier(gateway: Gateway, own_stage: Stage, tmp_path):
    if gateway.open is None:
        pytest.skip(f"{gateway.name} has no such setting: it always refuses")
    key = own_stage.keys.issue(metadata={"plan": "gold"})
    own_stage.publish()
    with start(gateway, own_stage, tmp_path, gateway.open) as program:
        # Refusals are refusals, as long as there is somebody to ask.
        assert CLIENT == call(program.port, "/", by_key(key.token)).identity["x-verifier-client"]
        assert 401 == call(program.port, "/", by_key("vk_live_nonsense")).status
        assert 403 == call(program.port, "/trade", by_key(key.token)).status
        own_stage.stop_node()
        answer = call(program.port, "/a?b=1", [*FORGED, *by_key(key.token)])
        assert ({}, "/a?b=1") == (answer.identity, answer.arrived["path"])
