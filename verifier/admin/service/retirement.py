"""Whether a version can be retired."""

from verifier.admin.changing import time_s
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import span, span_ms, stamp
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control import retirement
from verifier.control.retirement import NodeCoverage, Safety
from verifier.registry import queries

SAFETIES = {
    Safety.SAFE: pb.SAFETY_SAFE,
    Safety.NOT_SAFE: pb.SAFETY_NOT_SAFE,
    Safety.UNKNOWN: pb.SAFETY_UNKNOWN,
}


class Retirement(Handlers):
    """The part of LifecycleService that judges, and changes nothing."""

    def CheckRetirement(self, request: pb.CheckRetirementRequest) -> pb.CheckRetirementResponse:
        """Tell whether a superseded version can be retired without refusing anybody."""
        with self._desk.registry.read() as connection:
            key = queries.find_key(connection, request.key_id)
            found = retirement.check_retirement(connection, key, request.version, time_s(), request.accept_gaps)
        return pb.CheckRetirementResponse(
            safety=SAFETIES[found.safety],
            reasons=found.reasons,
            as_of=stamp(found.as_of),
            quiet_required=span(found.quiet_required_s),
            quiet_because=found.quiet_because,
            last_used_at=stamp(found.last_used_at),
            last_used_node=found.last_used_node or "",
            old_valid=found.old_valid,
            new_valid=found.new_valid,
            share_moved=found.share_moved,
            addresses=found.addresses,
            nodes=map(_coverage, found.nodes),
            version=found.version,
        )


def _coverage(node: NodeCoverage) -> pb.NodeCoverage:
    message = pb.NodeCoverage(
        node=node.node, to=stamp(node.to_s), gap=span_ms(round(node.gap_s * 1000))
    )
    if node.from_s is not None:
        getattr(message, "from").seconds = node.from_s  # a word of Python's own
    return message
