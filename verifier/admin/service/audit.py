"""AuditService: who did what, when."""

from verifier.admin.paging import begin, page_size
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import moment_s, stamp
from verifier.admin.v1 import audit_pb2 as pb
from verifier.control import auditing
from verifier.control.auditing import Listed, Wanted


class Audit(Handlers):
    """All of AuditService."""

    def ListEntries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        """Return entries, the newest first."""
        size = page_size(request.page_size, 50)
        beyond = begin(request.page_token, 0) or None
        wanted = Wanted(
            client_id=request.client_id or None,
            key_id=request.key_id or None,
            action=request.action or None,
            principal=request.principal or None,
            since=moment_s(request, "since"),
            until=moment_s(request, "until"),
        )
        with self._desk.registry.read() as connection:
            found = auditing.listed(connection, wanted, size=size + 1, beyond=beyond, ascending=request.ascending)
        more = str(found[size - 1].entry.sequence) if len(found) > size else ""
        return pb.ListEntriesResponse(entries=map(_entry, found[:size]), next_page_token=more)

    def VerifyLog(self, request: pb.VerifyLogRequest) -> pb.VerifyLogResponse:
        """Check the chain from the first entry to the last."""
        with self._desk.registry.read() as connection:
            found = auditing.check(connection, request.anchor or None)
        return pb.VerifyLogResponse(
            sound=found.is_sound, entries=found.entries, anchor=found.anchor or "", problems=found.problems
        )


def _entry(one: Listed) -> pb.Entry:
    entry = one.entry
    return pb.Entry(
        audit_id=entry.audit_id, at=stamp(entry.at), principal=entry.principal, action=entry.action,
        client_id=entry.client_id or "", key_id=entry.key_id or "", version=entry.version or 0,
        details_json=entry.details, request_id=entry.request_id or "", revision=one.revision or 0, hash=entry.hash,
        change=entry.change, about_revision=entry.revision or 0,
    )  # fmt: skip
