"""What only Envoy has: its own ways to pass headers on, metadata for its logs, and why the example has what it has."""

import pytest

from tests.gateways.conftest import start
from tests.gateways.support.calling import bearer, by_key, call
from tests.gateways.support.gateways import ENVOY, FILES
from tests.gateways.support.keys import CLIENT
from tests.gateways.support.stage import Stage
from tests.gateways.test_gateways import FIXED, FORGED
from tests.support.node import until

pytestmark = [
    pytest.mark.gateways,
    pytest.mark.skipif(ENVOY.program is None, reason="envoy is NOT INSTALLED: scripts/gateways.sh install envoy"),
]

TEXT = (FILES / "envoy" / "envoy.yaml").read_text()
# The filter that keeps forged identities out, with its comment.
GUARD = TEXT[TEXT.index("          # Nobody outside") : TEXT.index("          - name: envoy.filters.http.ext_authz\n")]
RAW = "encode_raw_headers: true"
STATS = "          stat_prefix: ingress\n"
LOG = """\
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                text_format_source: {inline_string: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%\\n"}
"""


def test_the_answer_itself_overwrites_what_a_caller_says(stage: Stage, tmp_path):
    key = stage.keys.issue()
    stage.publish()
    with start(ENVOY, stage, tmp_path, (GUARD, "")) as program:
        for headers in ([*FORGED, *by_key(key.token)], [*FORGED, *FORGED, *bearer(key.token)]):
            identity = call(program.port, "/", headers).identity
            assert {f"x-verifier-{name}" for name in FIXED} == identity.keys()
            assert CLIENT == identity["x-verifier-client"] and "root" not in identity.values()


def test_the_filter_before_is_what_makes_failing_open_bearable(stage: Stage, tmp_path):
    """Without it, Envoy sends forged headers on when nobody answers: if this fails, the example needs it no longer."""
    own = Stage(stage.keys)
    assert ENVOY.open
    try:
        with start(ENVOY, own, tmp_path, (GUARD, ""), ENVOY.open) as program:
            own.stop_node()
            assert "root" == call(program.port, "/", [("X-Verifier-Client", "root")]).identity["x-verifier-client"]
    finally:
        own.close()


@pytest.mark.parametrize("raw", ["encode_raw_headers: true", "encode_raw_headers: false"])
def test_keys_are_found_in_both_forms_that_headers_have(stage: Stage, tmp_path, raw: str):
    key, other = stage.keys.issue(), stage.keys.issue()
    stage.publish()
    with start(ENVOY, stage, tmp_path, (RAW, raw)) as program:
        assert CLIENT == call(program.port, "/", bearer(key.token)).identity["x-verifier-client"]
        assert CLIENT == call(program.port, "/", by_key(key.token)).identity["x-verifier-client"]
        for twice in ([*by_key(key.token), *by_key(other.token)], [*by_key(key.token), *bearer(key.token)]):
            assert 401 == call(program.port, "/", twice).status


def test_logs_and_rate_limits_can_tell_whose_key_it_was(stage: Stage, tmp_path):
    key = stage.keys.issue()
    stage.publish()
    with start(ENVOY, stage, tmp_path, (STATS, STATS + LOG)) as program:
        call(program.port, "/", by_key(key.token))
        call(program.port, "/trade", by_key(key.token))
        until(lambda: program.log.count(key.key_id) >= 2, timeout_s=15)
        assert key.token not in program.log


def test_behind_another_proxy_the_address_is_the_one_that_it_saw(stage: Stage, tmp_path):
    key = stage.keys.issue(rules=("127.0.0.2/32",))
    behind = Stage(stage.keys, "--authz-forwarded-hops", "2")
    behind.publish()
    try:
        with start(ENVOY, behind, tmp_path) as program:

            def status(*forwarded: str) -> int:
                """Call as that proxy would, which appended the last of these to what the caller had sent."""
                return call(program.port, "/", [("X-Forwarded-For", ", ".join(forwarded)), *by_key(key.token)]).status

            assert 200 == status("127.0.0.2")
            assert 200 == status("198.51.100.7", "127.0.0.2")
            assert 403 == status("127.0.0.2", "198.51.100.7")
            assert 403 == call(program.port, "/", by_key(key.token)).status  # not through it
    finally:
        behind.close()
