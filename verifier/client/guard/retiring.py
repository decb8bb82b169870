"""What the caller is told while the key's version is being replaced (semantics 1.3)."""

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


def headers_for(answer: Answer, standard: bool) -> Headers:
    """Return what is added to a response.

    All of it is said of the caller's key and not of the resource, so no shared cache may hand it to others: beside
    whatever ``Cache-Control`` the response has, ``private`` is the directive that binds.

    Args:
        answer: of a version that is being retired.
        standard: send ``Deprecation`` and ``Sunset``, too.
    """
    return [phase_header(answer), *(standard_headers(answer) if standard else []), ("cache-control", "private")]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
