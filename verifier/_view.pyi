from collections.abc import Sequence

from verifier._answer import Answer
from verifier._map import Map
from verifier._usage import Usage

class View:
    def __init__(
        self,
        base: Map,
        base_slots: tuple[int, int],
        switches: tuple[int, int],
        peppers: Sequence[bytes],
        prefixes: Sequence[tuple[str, str]],
        accepts_foreign: bool,
        revision: int,
        delta: Map | None = None,
        delta_slots: tuple[int, int] | None = None,
        max_staleness_ms: int = 0,
    ) -> None: ...
    @property
    def base(self) -> Map: ...
    @property
    def delta(self) -> Map | None: ...
    @property
    def revision(self) -> int: ...
    @property
    def staleness_ms(self) -> int: ...
    def check(self, *, base: bool = True) -> int: ...
    def confirm(self) -> None: ...
    def count_into(self, usage: Usage) -> None: ...
    def verify(
        self,
        token: str | bytes,
        required_scopes: Sequence[str] = (),
        client_address: str | None = None,
        *,
        probe: bool = False,
    ) -> Answer: ...
    def verify_at(
        self,
        token: str | bytes,
        second_s: int,
        required_scopes: Sequence[str] = (),
        client_address: str | None = None,
    ) -> Answer: ...
    def verify_batch(
        self,
        tokens: Sequence[str | bytes],
        required_scopes: Sequence[str] = (),
        client_address: str | None = None,
        *,
        probe: bool = False,
    ) -> list[Answer]: ...
    def measure_ns(self, tokens: bytes, width: int, rounds: int, dependent: bool) -> float: ...
