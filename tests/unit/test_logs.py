"""Logs: one line for each event, and never a token."""

import io
import json
import logging

import pytest

from tests.support.publications import native
from verifier.server import logs


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines(stream: io.StringIO):
    logs.configure("json", "info", stream)
    logs.get_logger("node").info("serving", revision=3)
    logs.get_logger("node").debug("unheard")
    (line,) = lines(stream)
    assert ("serving", 3, "info", "node") == (line["event"], line["revision"], line["level"], line["part"])
    assert str(line["time"]).endswith("Z")


def test_text_is_one_line(stream: io.StringIO):
    logs.configure("text", "info", stream)
    logs.get_logger("node").warning("slow", tag_ns=400)
    assert "slow" in stream.getvalue() and "tag_ns=400" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1


def test_tokens_are_blanked_wherever_they_are(stream: io.StringIO):
    token = native(7)
    logs.configure("json", "info", stream)
    log = logs.get_logger("node")
    log.info("got " + token, a=token, b=[token, token.encode()], c={"d": token}, e=f"x={token};")
    try:
        raise ValueError(f"bad {token}")
    except ValueError:
        log.error("failed", exc_info=True)
    logging.getLogger("library").error("oh %s", token)
    assert token not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 8


def test_what_is_no_token_stays(stream: io.StringIO):
    logs.configure("json", "info", stream)
    names = ["key_" + "a" * 40, "f" * 64, native(7)[:-1] + "x"]
    logs.get_logger("node").info("names", names=names)
    assert names == lines(stream)[0]["names"]
