"""What a refused caller is told: problem details (RFC 9457), ``WWW-Authenticate`` (RFC 6750), ``Retry-After``.

Status, code and level of disclosure are those of semantics 1.2 and 1.3; nothing of the key's record is in it.
"""

import json
from http import HTTPStatus

from verifier.client._decision import Decision
from verifier.client.guard.access import Access
from verifier.client.guard.presented import Place

Headers = list[tuple[str, str]]
PROBLEM_TYPE = "application/problem+json"
UNDISCLOSED = "unauthorized"


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
        self._bodies: dict[tuple[int, str], bytes] = {}

    def code(self, decision: Decision) -> str:
        """Return the public code of a refusal."""
        if self._minimal and decision.http_status == HTTPStatus.UNAUTHORIZED:
            return UNDISCLOSED
        return decision.code or "unavailable"

    def body(self, decision: Decision) -> bytes:
        """Return the body of a refusal, the same for all refusals with this status and code."""
        key = (decision.http_status, self.code(decision))
        if key not in self._bodies:
            self._bodies[key] = _problem(*key)
        return self._bodies[key]

    def headers(self, decision: Decision, place: Place | None, scopes: tuple[str, ...]) -> Headers:
        """Return the headers that go with the body.

        Args:
            decision: the refusal.
            place: where the key was, or the first of several; None when there was none.
            scopes: what was asked for.
        """
        headers = [
            ("content-type", PROBLEM_TYPE),
            ("content-length", str(len(self.body(decision)))),
            ("cache-control", "no-store"),
        ]
        challenge = self._challenge(decision, place, scopes)
        if challenge:
            headers.append(("www-authenticate", challenge))
        if decision.retry_after_s is not None:
            headers.append(("retry-after", str(decision.retry_after_s)))
        return headers

    def _challenge(self, decision: Decision, place: Place | None, scopes: tuple[str, ...]) -> str | None:
        if decision.http_status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return None
        if not (place or self._first).is_bearer:
            return f'ApiKey realm="{self._realm}"'
        parts = [f'Bearer realm="{self._realm}"']
        if decision.code == "insufficient_scope":
            parts += ['error="insufficient_scope"', f'scope="{" ".join(scopes)}"']
        elif decision.code == "multiple_keys":
            parts.append('error="invalid_request"')
        elif decision.http_status == HTTPStatus.UNAUTHORIZED and place is not None:
            parts.append('error="invalid_token"')
        return ", ".join(parts)


def _problem(status: int, code: str) -> bytes:
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    return json.dumps(problem, separators=(",", ":")).encode()
