"""Rotating keys, and going back."""

from collections.abc import Callable

from verifier.admin.messages import version_message
from verifier.admin.policies import CLOCK_NAMES
from verifier.admin.service.handlers import Handlers, Response
from verifier.admin.service.keys import described, secret_of
from verifier.admin.times import moment_s, span_s
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control import rotation
from verifier.control.acting import Act
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.errors import InvalidInput
from verifier.registry.facts import Key
from verifier.vocabulary import RevocationReason

NEVER = 0  # of RotateTerms.expires_in_s


class Rotation(Handlers):
    """The part of LifecycleService that rotates."""

    def RotateKey(self, request: pb.RotateKeyRequest) -> pb.RotateKeyResponse:
        """Issue the next version of a key and start the overlap of the one before."""
        secret, terms = NewSecret(self._desk.peppers(), secret_of(request)), _terms_of(request)

        def work(act: Act, response: pb.RotateKeyResponse) -> None:
            rotated = rotation.rotate(act, request.key_id, terms, secret)
            response.key.CopyFrom(described(act, rotated.key))
            response.version = rotated.version
            response.previous.CopyFrom(version_message(rotated.key, rotated.previous, act.now_s))
            response.receipt.warnings.extend(
                f"version {version.number} was active and is revoked: no node had reported a use of it. If somebody "
                "holds its token: verifier reinstate with the audit id of this rotation"
                for version in rotated.withdrawn
            )
            if not request.options.validate_only:
                response.token = rotated.token or ""

        return self._change(request, pb.RotateKeyResponse(), work)

    def PromoteVersion(self, request: pb.PromoteVersionRequest) -> pb.PromoteVersionResponse:
        """Activate a pending successor now, or start the overlap that waits for its first use."""
        return self._on_key(request, pb.PromoteVersionResponse(), lambda act: rotation.promote(act, request.key_id))

    def RetireVersion(self, request: pb.RetireVersionRequest) -> pb.RetireVersionResponse:
        """End the overlap of a superseded version."""
        at_s = moment_s(request, "retire_at")

        def retire(act: Act) -> Key:
            return rotation.retire(act, request.key_id, request.version, at_s, force=request.force)

        return self._on_key(request, pb.RetireVersionResponse(), retire)

    def CancelRotation(self, request: pb.CancelRotationRequest) -> pb.CancelRotationResponse:
        """Withdraw a successor that is pending or was never used."""
        return self._on_key(request, pb.CancelRotationResponse(), lambda act: rotation.cancel(act, request.key_id))

    def RollBackKey(self, request: pb.RollBackKeyRequest) -> pb.RollBackKeyResponse:
        """Make an earlier version of a key its current one again."""
        to, overlap_s = request.to_version or None, span_s(request, "overlap")

        def roll_back(act: Act) -> Key:
            return rotation.roll_back_key(act, request.key_id, to, overlap_s)

        return self._on_key(request, pb.RollBackKeyResponse(), roll_back)

    def _on_key(self, request: object, response: Response, rule: Callable[[Act], Key]) -> Response:
        """Carry out a command whose response is the key after it."""

        def work(act: Act, response: Response) -> None:
            response.key.CopyFrom(described(act, rule(act)))  # type: ignore[attr-defined]  # each of them has one

        return self._change(request, response, work)


def reason_of(number: int, default: RevocationReason) -> RevocationReason:
    """Read a reason.

    Args:
        number: 0 for the default.
        default: what nothing stands for.

    Raises:
        InvalidInput: this version of the software does not know it (``BAD_REASON``).
    """
    try:
        return RevocationReason(number) if number else default
    except ValueError:
        raise InvalidInput(f"{number} is no reason for a revocation", code="BAD_REASON") from None


def _terms_of(request: pb.RotateKeyRequest) -> RotateTerms:
    if request.clock and request.clock not in CLOCK_NAMES:
        raise InvalidInput(f"{request.clock} is no clock", code="BAD_CLOCK")
    return RotateTerms(
        overlap_s=span_s(request, "overlap"),
        clock=CLOCK_NAMES.get(request.clock),
        max_pending_s=span_s(request, "max_pending"),
        activate_at=moment_s(request, "activate_at"),
        expires_in_s=NEVER if request.never_expires else span_s(request, "expires_in"),
        reason=reason_of(request.reason, RevocationReason.SUPERSEDED),
        force=request.force,
        allow_gap=request.allow_gap,
        expected_version=request.expected_version or None,
    )
