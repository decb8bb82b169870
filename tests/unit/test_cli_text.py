"""What commands write for people."""

import pytest

from verifier.cli._common import counted, plain
from verifier.cli.status import show


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
