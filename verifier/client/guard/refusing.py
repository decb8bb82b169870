"""What a refused caller is told: problem details (RFC 9457), ``WWW-Authenticate`` (RFC 6750), ``Retry-After``.

Bodies and headers are those of a node's own gateway endpoints (`_decided.pyx`), byte for byte; a test compares them. Of
the key's record they tell its end or beginning at most.
"""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from verifier.client._decision import Decision
from verifier.client.guard.access import Access
from verifier.client.guard.presented import Place

Headers = list[tuple[str, str]]
PROBLEM_TYPE = "application/problem+json"
UNDISCLOSED = "unauthorized"
RETRY_AFTER_S = "1"
SCOPE_CHARACTERS_MAX = 1024  # in a challenge

DETAILS: Final = {
    "invalid_key": "The API key is not valid.",
    "missing_key": "The request has no API key.",
    "multiple_keys": "The request has more than one API key.",
    "key_revoked": "The API key was revoked.",
    "key_disabled": "The API key is switched off.",
    "key_not_active": "The API key is not active yet.",
    "key_expired": "The API key has expired.",
    UNDISCLOSED: "A valid API key is required.",
    "address_not_allowed": "The API key may not be used from this address.",
    "insufficient_scope": "The API key lacks a scope that is required here.",
    "rate_limited": "The API key is used too often.",
    "quota_exceeded": "The quota of the API key is used up.",
    "bad_request": "The request cannot be understood.",
    "unavailable": "API keys cannot be verified at the moment.",
}


class Refusals:
    """Writes refusals for a service.

    Args:
        access: how the service is guarded.
        first: the place that callers without a key are told of.
    """

    def __init__(self, access: Access, first: Place) -> None:
        self._first = first
        self._realm = access.realm
        self._minimal = access.disclose == "minimal"

    def code(self, decision: Decision) -> str:
        """Return the public code of a refusal."""
        if self._minimal and decision.http_status == HTTPStatus.UNAUTHORIZED:
            return UNDISCLOSED
        return decision.code or "unavailable"

    def body(self, decision: Decision) -> bytes:
        """Return the body of a refusal: problem details, byte for byte as a node's gateway endpoints write them."""
        code = self.code(decision)
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(decision.http_status).phrase,
            "status": decision.http_status,
            "code": code,
            "detail": DETAILS[code],
        }
        answer = decision.answer
        if answer is not None and code == "key_expired" and answer.expires_at is not None:
            problem["expires_at"] = _timestamp(answer.expires_at)
        if answer is not None and code == "key_not_active" and answer.not_before is not None:
            problem["not_before"] = _timestamp(answer.not_before)
        return json.dumps(problem, separators=(",", ":")).encode()

    def headers(self, decision: Decision, place: Place | None, scopes: tuple[str, ...]) -> Headers:
        """Return the headers that go with the body, without ``Content-Length``.

        Args:
            decision: the refusal.
            place: where the key was, None when there was none.
            scopes: what was asked for.
        """
        headers = [("content-type", PROBLEM_TYPE), ("cache-control", "no-store")]
        challenge = self._challenge(decision, place, scopes)
        if challenge:
            headers.append(("www-authenticate", challenge))
        if decision.http_status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers.append(("retry-after", RETRY_AFTER_S))
        return headers

    def _challenge(self, decision: Decision, place: Place | None, scopes: tuple[str, ...]) -> str | None:
        code, told = decision.code, place or self._first
        if code in ("missing_key", "multiple_keys"):
            told = self._first  # the one that operators prefer
        elif code != "insufficient_scope" and decision.http_status != HTTPStatus.UNAUTHORIZED:
            return None
        if not told.is_bearer:
            return f'ApiKey realm="{self._realm}"'
        bearer = f'Bearer realm="{self._realm}"'
        if code == "missing_key":
            return bearer
        if code == "insufficient_scope":
            text = " ".join(scopes)
            named = f', scope="{text}"' if 0 < len(text) < SCOPE_CHARACTERS_MAX else ""
            return f'{bearer}, error="insufficient_scope"{named}'
        return f'{bearer}, error="{"invalid_request" if code == "multiple_keys" else "invalid_token"}"'


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
