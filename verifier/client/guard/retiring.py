"""What the caller is told while the key's version is being replaced (semantics 1.3)."""

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime

from verifier._answer import Answer
from verifier.client._decision import Decision
from verifier.vocabulary import Phase

Headers = list[tuple[str, str]]


def is_retiring(decision: Decision) -> bool:
    """Tell whether the caller should move to the key's next version."""
    return decision.answer is not None and decision.answer.phase is Phase.RETIRING


def phase_header(answer: Answer) -> tuple[str, str]:
    """Return the header that tells it in full."""
    parts = ["retiring"]
    if answer.superseded_by is not None:
        parts.append(f"successor={answer.superseded_by}")
    if answer.expires_at is not None:
        parts.append(f"end={_seconds(answer.expires_at)}")
    return "x-api-key-phase", "; ".join(parts)


def standard_headers(answer: Answer) -> Headers:
    """Return the headers of RFC 9745 and RFC 8594."""
    headers: Headers = []
    if answer.superseded_at is not None:
        headers.append(("deprecation", f"@{_seconds(answer.superseded_at)}"))
    if answer.expires_at is not None:
        headers.append(("sunset", format_datetime(answer.expires_at, usegmt=True)))
    return headers


def headers_for(answer: Answer, standard: bool, cache_control: Callable[[], str | None]) -> Headers:
    """Return what is added to a response.

    Args:
        answer: of a version that is being retired.
        standard: send ``Deprecation`` and ``Sunset``. They speak of the resource, not of the key, so a response that
            a shared cache may keep goes without, and one that leaves it open is made private.
        cache_control: reads the response's ``Cache-Control``, None when it has none.
    """
    headers = [phase_header(answer)]
    if not standard:
        return headers
    control = cache_control()
    if control is None:
        return [*headers, *standard_headers(answer), ("cache-control", "private")]
    directives = {part.partition("=")[0].strip().lower() for part in control.split(",")}
    # private="field" is about that field alone.
    whole = {part.strip().lower() for part in control.split(",")}
    if "no-store" in directives or "private" in whole:
        return [*headers, *standard_headers(answer)]
    return headers


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
