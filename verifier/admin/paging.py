"""Pages of long lists: how long they may be, and where the next one begins."""

from verifier.errors import InvalidInput

SIZE_MAX = 1000


def page_size(asked: int, default: int, most: int = SIZE_MAX) -> int:
    """Return how many a page holds.

    Args:
        asked: 0 for the default.
        default: the default.
        most: more are not given.

    Raises:
        InvalidInput: a negative number was asked for, or too many (``BAD_PAGE``).
    """
    if not 0 <= asked <= most:
        raise InvalidInput(f"a page holds 1 to {most:,}", code="BAD_PAGE")
    return asked or default


def begin(token: str, first: int) -> int:
    """Return where a page begins, from the token of the page before.

    Args:
        token: empty for the first page.
        first: what the first page begins after.

    Raises:
        InvalidInput: it is none of our tokens (``BAD_PAGE``).
    """
    if not token:
        return first
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidInput("this page token was not given here", code="BAD_PAGE")
    return int(token)
