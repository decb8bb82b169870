from collections.abc import Iterable, Sequence

RECORD_BYTES_MAX: int
FAULTS: dict[int, str]

def varint(number: int) -> bytes: ...

class Shape:
    def __init__(
        self,
        flags: int,
        reason: int,
        client_id: bytes,
        version: int,
        not_before: int | None,
        end: int | None,
        superseded_at: int | None,
        superseded_by: int,
        own_end: int | None,
        key_end: int | None,
        client_ordinal: int,
        scopes: Iterable[bytes],
        metadata: Iterable[tuple[bytes, bytes]],
        rules: bytes,
    ) -> None: ...
    def encode(self, key_id: str, tag: bytes, version_ordinal: int) -> bytes: ...

def encode_many(
    shape: Shape, key_ids: Sequence[str], tags: Sequence[bytes], version_ordinals: Sequence[int]
) -> list[bytes]: ...
def encode_absent(tag: bytes) -> bytes: ...
def fault_of(record: bytes, *, in_delta: bool = False) -> str | None: ...
