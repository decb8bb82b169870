from collections.abc import Sequence

FIXED_HEADERS: tuple[str, ...]

class Authz:
    def __init__(
        self, places: Sequence[tuple[str, str, str]] = ..., *, metadata: Sequence[tuple[str, str]] = (),
        realm: str = "api", minimal: bool = False, deprecation: bool = True, answer_faults: bool = False,
        forwarded_hops: int = 0,
    ) -> None: ...
