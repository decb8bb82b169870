"""Records of all kinds for hypothesis, and keyrings built from them."""

import hashlib
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from verifier.keyring.builder import build_keyring
from verifier.keyring.description import KeyringDescription
from verifier.keyring.records import NONE, Record, encode_record
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import RevocationReason

Row = tuple[bytes, bytes]

SCOPE_LETTERS = "".join(set(map(chr, range(0x21, 0x7F))) - set('",\\'))
times = st.none() | st.integers(1, NONE - 1)
ordinals = st.integers(0, NONE)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.text(string.ascii_letters + "-_é", min_size=1, max_size=40)
scopes = st.lists(st.text(SCOPE_LETTERS, min_size=1, max_size=20), max_size=8, unique=True)
rules = st.lists(
    st.builds(lambda bits, number: f"{number >> 32 - bits << 32 - bits >> 24}.0.0.0/{min(bits, 8)}",
              st.integers(8, 32), st.integers(0, 2**32 - 1))
    | st.builds(lambda number, bits: f"2001:db8:{number:x}::/{bits}", st.integers(0, 0xFFFF), st.integers(48, 128)),
    max_size=5, unique=True,
)  # fmt: skip
reasons = st.sampled_from(RevocationReason)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that fits."""
    revoked = draw(st.booleans())
    return Record(
        client_id=draw(ids), key_id=draw(ids), version=draw(st.integers(1, 2**31 - 1)),
        not_before=draw(times), expires_at=draw(times), superseded_at=draw(times),
        superseded_by=draw(st.integers(0, 2**31 - 1)), reason=draw(reasons) if revoked else None, revoked=revoked,
        key_off=draw(st.booleans()), watch=draw(st.booleans()), own_end=draw(times), key_end=draw(times),
        version_ordinal=draw(ordinals), client_ordinal=draw(ordinals),
        scopes=tuple(sorted(draw(scopes))),
        metadata=draw(st.dictionaries(texts.filter(bool), texts, max_size=6)),
        rules=tuple(draw(rules)),
    )  # fmt: skip


def response_of(record: Record, *, full: bool) -> VerifyResponse:
    """What protobuf would say of a record; ``full`` with scopes and metadata."""
    message = VerifyResponse(client_id=record.client_id, key_id=record.key_id, version=record.version,
                             superseded_by=record.superseded_by)
    if record.reason is not None:
        message.revocation_reason = record.reason.value  # type: ignore[assignment]
    for name in ("not_before", "expires_at", "superseded_at"):
        if getattr(record, name) is not None:
            getattr(message, name).seconds = getattr(record, name)
    if full:
        message.scopes.extend(sorted(record.scopes))
        message.metadata.update(record.metadata)
    return message


def tag(number: int) -> bytes:
    """A tag that looks random, always the same."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def plain(number: int, **changes: Any) -> Record:
    """An ordinary record."""
    facts: dict[str, Any] = {"client_id": "acme", "key_id": f"key_{number}", "version": 1,
                             "version_ordinal": number, "client_ordinal": 1, "scopes": ("read",)}  # fmt: skip
    return Record(**(facts | changes))


def rows(count: int, **changes: Any) -> list[Row]:
    """Rows of ordinary records, in no order."""
    return [(tag(number), encode_record(plain(number, **changes), tag(number))) for number in range(count)]


def built(folder: Path, of: Iterable[Any], **changes: Any) -> KeyringDescription:
    """Build a keyring of rows."""
    options: Mapping[str, Any] = {"peppers": ["p1"], "prefixes": [("vk_live", "NATIVE")], "accepts_foreign": False,
                                  "clients_off": [], "client_count": 8}  # fmt: skip
    return build_keyring(folder, of, **(options | changes))


def path_of(folder: Path, keyring: KeyringDescription) -> Path:
    """Where a keyring that was built lies."""
    return folder / f"{keyring.sha256}.mdb"
