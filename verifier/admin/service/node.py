"""NodeService: what nodes tell, and who they are."""

from verifier.admin.changing import time_s
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import moment_ms, moment_s, span_ms, stamp, stamp_ms
from verifier.admin.v1 import node_pb2 as pb
from verifier.control import nodes, usage
from verifier.control.acting import Act
from verifier.control.coverage import is_expected, known_to_ms
from verifier.control.nodes import Refusal, StatusReport
from verifier.control.usage import UsageReport, WatchedUse
from verifier.errors import InvalidInput
from verifier.registry.nodes import Node


class Nodes(Handlers):
    """All of NodeService."""

    def ReportStatus(self, request: pb.ReportStatusRequest) -> pb.ReportStatusResponse:
        """Note what a node serves; tell it what is newest."""
        load_ms = request.load_time.ToMilliseconds() if request.HasField("load_time") else None
        report = StatusReport(
            node=request.node,
            epoch=request.epoch,
            revision=request.revision,
            clock_ms=moment_ms(request, "clock"),
            store_id=request.store_id,
            served_at_ms=moment_ms(request, "served_at"),
            load_ms=load_ms,
            refusal=_refusal_of(request.last_refusal) if request.HasField("last_refusal") else None,
            version=request.version,
            addresses=tuple(request.addresses),
            stopping=request.stopping,
        )
        if self._desk.board.report(report):
            with self._desk.acting(self._caller.actor()) as act:
                nodes.tell_shared_name(act, report)
        response = pb.ReportStatusResponse(revision=self._desk.store.current() or 0)
        response.clock.GetCurrentTime()
        return response

    def ReportUsage(self, request: pb.ReportUsageRequest) -> pb.ReportUsageResponse:
        """Count what a node verified, once."""
        from_ms, to_ms = moment_ms(request, "from"), moment_ms(request, "to")
        if from_ms is None or to_ms is None:
            raise InvalidInput("a report says from when to when it counts", code="BAD_REPORT")
        report = UsageReport(
            node=request.node,
            epoch=request.epoch,
            sequence=request.sequence,
            from_ms=from_ms,
            to_ms=to_ms,
            ordinals=request.ordinals,
            valid=request.valid,
            refused=request.refused,
            watched=[
                WatchedUse(one.ordinal, one.verdict, moment_s(one, "used_at") or 0, one.address)
                for one in request.watched
            ],
            watched_lost=request.watched_lost,
            partial=request.partial,
        )
        applied = usage.take_report(
            lambda: self._desk.acting(self._caller.actor()), report, full_addresses=self._desk.full_addresses
        )
        if applied.publish:
            self._desk.on_publication_due()
        return pb.ReportUsageResponse(applied=applied.sequence)

    def ListNodes(self, request: pb.ListNodesRequest) -> pb.ListNodesResponse:
        """Return the nodes that reported."""
        with self._desk.registry.read() as connection:
            found = nodes.list_nodes(connection)
        return pb.ListNodesResponse(nodes=[_node(node) for node in found if node.forgotten_at is None])

    def ForgetNode(self, request: pb.ForgetNodeRequest) -> pb.ForgetNodeResponse:
        """Stop expecting a node."""

        def work(act: Act, _: pb.ForgetNodeResponse) -> None:
            nodes.forget(act, request.node)

        return self._change(request, pb.ForgetNodeResponse(), work)


def _refusal_of(message: pb.Refusal) -> Refusal:
    return Refusal(message.revision, message.code, message.message, moment_s(message, "refused_at") or 0)


def _refusal(node: Node) -> pb.Refusal | None:
    refusal = nodes.refusal_of(node)
    if refusal is None:
        return None
    return pb.Refusal(
        revision=refusal.revision, code=refusal.code, message=refusal.message, refused_at=stamp(refusal.at_s)
    )


def _node(node: Node) -> pb.Node:
    return pb.Node(
        node=node.name,
        revision=node.revision,
        served_at=stamp_ms(node.served_at_ms),
        load_time=span_ms(node.load_ms),
        last_refusal=_refusal(node),
        last_seen_at=stamp(node.last_seen_at),
        clock_skew=span_ms(node.clock_skew_ms),
        usage_to=stamp_ms(known_to_ms(node)),
        expected=is_expected(node, time_s()),
        version=node.version or "",
        addresses=node.addresses.split(),
    )
