"""What commands write for people, what they understand, and what they decide before anybody is asked."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from verifier import tokens
from verifier.admin.v1 import lifecycle_pb2, types_pb2
from verifier.cli import _app
from verifier.cli._common import Duration, counted, duration_text, pairs, plain
from verifier.cli._handout import Handout
from verifier.cli._policy import NAMES, laid_over, policy_line, said_in
from verifier.cli._present import policy_json, receipt_json
from verifier.cli._seam import Seam, in_doubt
from verifier.cli._wish import PUBLISHED, RECORDED, SERVED, Wish, tell, tell_laggards
from verifier.cli.nodes import _row
from verifier.cli.revoke import leaked_digests
from verifier.cli.status import show
from verifier.cli.usage import _hours
from verifier.control.policy import Policy
from verifier.errors import Conflict, InvalidInput, Unavailable


def test_numbers_with_their_nouns():
    assert [counted(number, "key") for number in (0, 1, 2, 20_000)] == ["0 keys", "1 key", "2 keys", "20,000 keys"]


def test_plain_values():
    assert [plain(value) for value in (None, True, False, 7, "x")] == ["-", "yes", "no", "7", "x"]


def test_a_refusal_without_a_revision_names_none(capsys: pytest.CaptureFixture[str]):
    refusal = {"revision": None, "code": "UNREADABLE", "message": "CURRENT does not hold a revision", "at": "now"}
    show({"state": "SERVING", "revision": 5, "published_at": None, "staleness_ms": 4, "store_id": None, "base": None,
          "delta": None, "last_refusal": refusal, "addresses": [], "uptime_s": 1.0, "version": "0"})  # fmt: skip
    shown = capsys.readouterr().out
    assert "UNREADABLE, CURRENT does not hold a revision (now)" in shown
    assert "None" not in shown


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1d", 86400), ("36h", 129_600), ("0s", 0)])
def test_durations_read_as_they_are_written(text: str, seconds: int):
    assert Duration().convert(text, None, None) == seconds
    assert duration_text(seconds) == text


@pytest.mark.parametrize("text", ["", "h", "1", "1.5h", "-1h", "1w", "١h"])
def test_other_durations_are_refused(text: str):
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(("hours", "text"), [([], "-"), ([3], "3"), ([0, 1, 2, 9, 22, 23], "0-2,9,22-23")])
def test_hours(hours: list[int], text: str):
    assert _hours(hours) == text


def test_the_parts_of_a_policy_are_those_that_the_rules_know():
    fields = {name.removesuffix("_s") for name in Policy.__slots__}
    assert set(NAMES) == fields


def test_a_policy_reads_as_it_is_written():
    said = said_in(["max-age=90d", "overlap=2h", "clock=on_first_use", "max_pending=10d", "notices=7d,1d",
                    "expires-in=never", "retire-when-safe=yes", "min-quiet=90m", "max-live=2"])  # fmt: skip
    policy = laid_over(types_pb2.Policy(), said)
    line = policy_line(policy_json(policy))
    assert laid_over(types_pb2.Policy(), said_in(line.split())) == policy
    assert line == ("max-age=90d overlap=2h clock=on_first_use max-pending=10d notices=7d,1d expires-in=never "
                    "retire-when-safe=yes min-quiet=90m max-live=2")  # fmt: skip
    assert policy_line(policy_json(types_pb2.Policy())) == "-"


def test_what_is_not_said_of_a_policy_stays():
    present = laid_over(types_pb2.Policy(), {"overlap": "1h", "notices": "1d", "clock": "manual"})
    changed = laid_over(present, {"notices": "", "overlap": "2h"})
    assert policy_json(changed) == {"overlap_s": 7200, "clock": "manual"}
    assert policy_json(present)["notices_s"] == [86400]


@pytest.mark.parametrize("said", [
    {"overlap": "soon"}, {"overlap": "never"}, {"clock": "1"}, {"max_live": "0"}, {"retire_when_safe": "perhaps"},
    {"colour": "red"}, {"notices": "1d,,2d"},
])  # fmt: skip
def test_a_policy_that_is_not_understood(said: dict[str, str]):
    with pytest.raises(InvalidInput) as raised:
        laid_over(types_pb2.Policy(), said)
    assert raised.value.code == "BAD_POLICY"


def test_pairs():
    assert pairs(["a=1", "b==2"]) == {"a": "1", "b": "=2"}
    for wrong in (["a"], ["a=1", "a=2"]):
        with pytest.raises(InvalidInput):
            pairs(wrong)


class Nodes:
    """Stands for a registry that knows nodes, or none: only asked whether there is one."""

    def __init__(self, *expected: bool) -> None:
        from verifier.admin.v1 import node_pb2

        self._answer = node_pb2.ListNodesResponse(nodes=[node_pb2.Node(node="n", expected=each) for each in expected])

    def ListNodes(self, _: object) -> Any:
        """Return them."""
        return self._answer


def seam_with(*expected: bool, remote: bool = False) -> Seam:
    admin: Any = type("Admin", (), {"node": Nodes(*expected)})()
    return Seam(admin, None if remote else Path())  # type: ignore[arg-type]


@pytest.mark.parametrize(("wish", "seam", "handout", "wait", "timeout_s"), [
    (Wish(), seam_with(), False, RECORDED, None),
    (Wish(publish=True), seam_with(), False, PUBLISHED, None),
    (Wish(), seam_with(remote=True), False, PUBLISHED, None),
    (Wish(publish=False), seam_with(remote=True), False, RECORDED, None),
    (Wish(wait=True), seam_with(), False, SERVED, 30),
    (Wish(wait=True, timeout_s=7), seam_with(), False, SERVED, 7),
    (Wish(), seam_with(), True, RECORDED, None),
    (Wish(), seam_with(False), True, RECORDED, None),
    (Wish(), seam_with(False, True), True, SERVED, 5),
    (Wish(publish=False), seam_with(True), True, RECORDED, None),
    (Wish(), seam_with(remote=True), True, SERVED, 5),
    (Wish(wait=False), seam_with(True), True, PUBLISHED, None),
    (Wish(publish=True, dry_run=True), seam_with(True), True, RECORDED, None),
])  # fmt: skip
def test_how_far_a_change_goes_by_itself(wish: Wish, seam: Seam, handout: bool, wait: int, timeout_s: int | None):
    options = wish.options(seam, handout=handout)
    assert (options.wait, options.timeout.seconds if options.HasField("timeout") else None) == (wait, timeout_s)
    assert options.validate_only == wish.dry_run
    assert len(options.request_id) == 36


@pytest.mark.parametrize("preview", [False, True])
def test_an_interrupted_change_tells_how_to_go_on_with_it(capsys: pytest.CaptureFixture[str], preview: bool):
    def interrupted(_: object) -> Any:
        raise KeyboardInterrupt

    options = types_pb2.Options(request_id="r-1", validate_only=preview)
    with pytest.raises(KeyboardInterrupt):
        seam_with().change(interrupted, lifecycle_pb2.RevokeRequest(options=options))
    assert ("--request-id r-1" in capsys.readouterr().err) is not preview


def test_a_node_that_could_not_even_read_a_revision_is_listed_without_one():
    body: dict[str, Any] = dict.fromkeys(("node", "expected", "revision", "served_at", "last_seen_at", "clock_skew_ms"))
    assert _row({**body, "last_refusal": {"code": "UNREADABLE", "revision": None}})[-1] == "UNREADABLE"
    assert _row({**body, "last_refusal": {"code": "FORMAT", "revision": 4}})[-1] == "FORMAT at revision 4"


def test_nodes_that_were_asked_directly_are_looked_at_directly(capsys: pytest.CaptureFixture[str]):
    for node, hint in (("n1", "nodes list"), ("127.0.0.1:9464", "status --target 127.0.0.1:9464")):
        with pytest.raises(click.exceptions.Exit):
            tell_laggards({"nodes": {"expected": 1, "behind": [node]}})
        assert f"verifier {hint} shows why" in capsys.readouterr().err


@pytest.mark.parametrize(("held_at", "hint"), [(0, "verifier publish"), (3, "--publish")])
def test_what_is_not_served_yet_says_how_it_will_be(capsys: pytest.CaptureFixture[str], held_at: int, hint: str):
    tell(Wish(), [], {}, types_pb2.Receipt(pending_changes=1, held_at=held_at))
    assert hint in capsys.readouterr().err.splitlines()[-1].removeprefix("not served yet: ").split(", ")[0]


def test_waiting_for_what_is_not_published_is_refused():
    with pytest.raises(InvalidInput):
        Wish(publish=False, wait=True).options(seam_with())


def test_a_receipt_that_says_nothing():
    body = receipt_json(types_pb2.Receipt(pending_changes=2))
    assert body.items() >= {"published": False, "revision": None, "propagation_ms": None, "audit_id": None}.items()
    assert body["nodes"] == {"expected": 0, "behind": []}


def test_what_may_have_been_done_all_the_same():
    assert in_doubt(Unavailable("the socket closed"))
    assert in_doubt(Unavailable("too late", code="DEADLINE_EXCEEDED"))
    assert not in_doubt(Unavailable("it cannot be reached: failed to connect to all addresses"))
    assert not in_doubt(Conflict("no"))
    assert in_doubt(KeyboardInterrupt())


class Lost:
    """Stands for a network on which answers get lost: the request arrives, and no answer comes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        raise self.error


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.cli._seam.RETRY_AFTER_S", 0.0)


def rotation() -> Any:
    from verifier.admin.v1 import lifecycle_pb2

    return lifecycle_pb2.RotateKeyRequest(key_id="k", options=types_pb2.Options(request_id="r-1"))


def test_a_lost_answer_loses_no_token(capsys: pytest.CaptureFixture[str]):
    method = Lost(Unavailable("the connection broke"))
    handout = Handout("vk_live", None, None)
    with pytest.raises(Unavailable) as raised:
        handout.ask(seam_with(remote=True), method, rotation())
    assert len(method.requests) == 3
    assert {request.options.request_id for request in method.requests} == {"r-1"}
    assert len({request.secret.sha256 for request in method.requests}) == 1
    assert raised.value.details["token"] == handout.token
    assert raised.value.details["request_id"] == "r-1"
    assert str(handout.token) in capsys.readouterr().err
    assert str(handout.token) not in raised.value.message + str(raised.value.hint)


def test_an_interrupted_change_loses_no_token(capsys: pytest.CaptureFixture[str]):
    handout = Handout("vk_live", None, None)
    with pytest.raises(KeyboardInterrupt):
        handout.ask(seam_with(), Lost(KeyboardInterrupt()), rotation())
    assert str(handout.token) in capsys.readouterr().err


def test_a_file_stays_when_no_answer_comes_and_goes_when_it_was_refused(tmp_path: Path):
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    with pytest.raises(Unavailable):
        Handout("vk_live", None, kept).ask(seam_with(remote=True), Lost(Unavailable("broke")), rotation())
    tokens.parse(kept.read_text().strip())
    with pytest.raises(Conflict):
        Handout("vk_live", None, gone).ask(seam_with(remote=True), Lost(Conflict("no")), rotation())
    assert not gone.exists()
    again = Handout("vk_live", None, kept, repeated=True)
    assert again.token == kept.read_text().strip()
    with pytest.raises(Conflict):
        Handout("vk_live", None, kept)


def test_leaked_tokens_are_counted_once(tmp_path: Path):
    file = tmp_path / "leaked"
    file.write_bytes(b"a\n\n b \r\na\n\xff\xfe\n")
    assert len(leaked_digests(file)) == 3
    file.write_bytes(b" \n")
    with pytest.raises(InvalidInput):
        leaked_digests(file)


def test_help_says_of_each_command_what_the_command_says():
    context = click.Context(_app.root)
    said = {name: text for name, (_, text) in _app.COMMANDS.items()}
    found = {name: _app.root.get_command(context, name) for name in _app.COMMANDS}
    assert {name: command.get_short_help_str(200) for name, command in found.items() if command} == said


HEAVY = ("grpc", "google.protobuf", "sqlalchemy", "lmdb", "rich", "cryptography", "verifier.admin",
         "verifier.control.keys")  # fmt: skip


@pytest.mark.parametrize("arguments", [["--help"], ["key", "--help"], ["key", "rotate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]):
    program = (
        "import sys\nfrom verifier.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "Usage" in done.stdout or "version" in done.stdout


def test_a_slip_is_noticed():
    with pytest.raises(click.UsageError, match="Did you mean 'publish'"):
        _app.root.main(["publsh"], standalone_mode=False)
