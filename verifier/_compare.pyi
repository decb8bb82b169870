from collections.abc import Callable

File = tuple[int, int, int]

class Comparison:
    def __init__(
        self, before: list[File], before_switches: tuple[bytes, int], after: list[File],
        after_switches: tuple[bytes, int],
    ) -> None: ...
    def run(
        self,
        now_s: int,
        is_wider: Callable[[bytes, bytes], bool],
        tell: Callable[[list[str], bytes, bytes], bool] | None = None,
        progress: Callable[[int], None] | None = None,
        lost: list[int] | None = None,
        *,
        dormant: bool = False,
    ) -> dict[str, int]: ...
    def differing(self, at_most: int) -> list[tuple[bytes, bytes | None, bytes | None]]: ...
