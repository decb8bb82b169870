"""Revoking in bulk, and undoing what was wrong."""

from verifier.admin.service.handlers import Handlers
from verifier.admin.service.rotation import reason_of
from verifier.admin.times import moment_s, stamp
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control import reinstating, revoking
from verifier.control.acting import Act
from verifier.control.revoking import Impact
from verifier.control.selecting import Selection
from verifier.vocabulary import RevocationReason


class Revoking(Handlers):
    """The part of LifecycleService that revokes."""

    def Revoke(self, request: pb.RevokeRequest) -> pb.RevokeResponse:
        """Revoke versions."""
        reason = reason_of(request.reason, RevocationReason.UNSPECIFIED)
        selection = self._selection_of(request.selection)
        expected = request.expected_count if request.HasField("expected_count") else None

        def work(act: Act, response: pb.RevokeResponse) -> None:
            done = revoking.revoke(act, selection, reason, expected)
            response.count, response.unmatched = done.count, done.unmatched
            response.keys_without_version, response.unserved = done.keys_without_version, done.unserved
            response.impacts.extend(map(_impact, done.impacts))

        return self._change(request, pb.RevokeResponse(), work, urgent=True)

    def Reinstate(self, request: pb.ReinstateRequest) -> pb.ReinstateResponse:
        """Undo a revocation that was wrong, other than key_compromise."""
        def work(act: Act, response: pb.ReinstateResponse) -> None:
            done = reinstating.reinstate(act, request.audit_id)
            response.count, response.kept = done.count, done.kept

        return self._change(request, pb.ReinstateResponse(), work)

    def _selection_of(self, selection: pb.Selection) -> Selection:
        return Selection(
            versions=[(name.key_id, name.version) for name in selection.versions],
            client_ids=list(selection.client_ids),
            prefixes=list(selection.prefixes),
            token_sha256s=list(selection.token_sha256s),
            created_before=moment_s(selection, "created_before"),
            created_after=moment_s(selection, "created_after"),
            peppers=self._desk.peppers() if selection.token_sha256s else (),
        )


def _impact(impact: Impact) -> pb.Impact:
    return pb.Impact(
        client_id=impact.client_id, key_id=impact.key_id, version=impact.version,
        last_used_at=stamp(impact.last_used_at), valid_24h=impact.valid_24h,
    )  # fmt: skip
