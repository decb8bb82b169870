"""The worked example of docs/keyring-format.md is what the code does, byte for byte."""

import re
from pathlib import Path

from tests.support.records import built, path_of
from verifier.keyring.reader import KeyringFile
from verifier.keyring.records import Record, encode_record
from verifier.tokens import tag

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keyring-format.md"
TOKEN = "vk_live_0123456789ABCDEFGHIJKLMNOPQ2HpRlH"
PEPPER = bytes(range(32))
RECORD = Record(
    client_id="acme", key_id="key_1", version=2, not_before=1767225600, expires_at=1798761600,
    superseded_at=1790812800, superseded_by=3, key_end=1830297600, version_ordinal=41, client_ordinal=7,
    scopes=("read", "trade"), metadata={"plan": "gold"}, rules=("192.0.2.0/24", "2001:db8::/32"),
)  # fmt: skip


def blocks() -> list[str]:
    """The fenced blocks of the page."""
    return re.findall(r"```\n(.*?)```", PAGE.read_text(), re.DOTALL)


def lines(block: str) -> list[tuple[str, bytes]]:
    """Pairs of place and bytes of a hex dump."""
    found = [re.match(r" *(\d[\d *+]*?)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:\s|$)", line) for line in block.splitlines()]
    assert all(found)
    return [(match[1], bytes.fromhex(match[2])) for match in found if match]


def test_the_tag():
    assert tag(TOKEN, [PEPPER]).hex() == "".join(re.findall(r"`([0-9a-f]{32})`", PAGE.read_text()))
    assert TOKEN in PAGE.read_text()


def test_the_record():
    (dump,) = [lines(block) for block in blocks() if "rest of the tag" in block]
    at = 0
    for place, piece in dump:
        assert at == int(place)
        at += len(piece)
    assert encode_record(RECORD, tag(TOKEN, [PEPPER])) == b"".join(piece for _, piece in dump)


def test_slots_and_switches(tmp_path: Path):
    row = (tag(TOKEN, [PEPPER]), encode_record(RECORD, tag(TOKEN, [PEPPER])))
    keyring = built(tmp_path, [row], clients_off=[2], client_count=8)
    (dump,) = [lines(block) for block in blocks() if "1 is off" in block]
    data = path_of(tmp_path, keyring).read_bytes()
    for place, piece in dump:
        terms = [re.findall(r"\d+", term) for term in place.split("+")]
        at = sum(int(term[0]) * int(term[1] if term[1:] else 1) for term in terms)
        assert piece == data[at : at + len(piece)], place
    with KeyringFile(path_of(tmp_path, keyring)) as file:
        assert (16208, row[1]) == file.find(row[0][:16])
    assert "byte 16208 of the file" in PAGE.read_text()
    assert (28688, 36880) == (keyring.slots.offset, keyring.switches.offset)


def test_the_header(tmp_path: Path):
    (shown,) = re.findall(r'```json\n(\{"format": 1, "kind".*?)```', PAGE.read_text(), re.DOTALL)
    import json

    keyring = built(tmp_path, [])
    with KeyringFile(path_of(tmp_path, keyring)) as file:
        assert set(json.loads(shown)) == set(file.header)
        written = path_of(tmp_path, keyring).read_bytes()
        canonical = json.dumps(file.header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert canonical.encode() in written
