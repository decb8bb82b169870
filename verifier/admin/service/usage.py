"""UsageService: how much keys are used."""

from verifier.admin.changing import time_s
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import moment_s, stamp
from verifier.admin.v1 import usage_pb2 as pb
from verifier.control.used import query_usage

LIMIT = 1000


class Usage(Handlers):
    """All of UsageService."""

    def QueryUsage(self, request: pb.QueryUsageRequest) -> pb.QueryUsageResponse:
        """Return the usage of a key or client by version and day, the newest first."""
        with self._desk.registry.read() as connection:
            found = query_usage(
                connection, time_s(), key_id=request.key_id or None, client_id=request.client_id or None,
                since_s=moment_s(request, "since"), limit=request.limit or LIMIT,
            )  # fmt: skip
        return pb.QueryUsageResponse(
            days=[
                pb.UsageDay(
                    key_id=day.key_id, version=day.version, day=day.day, valid=day.valid, refused=day.refused,
                    hours=day.hours,
                )
                for day in found.days
            ],
            as_of=stamp(found.as_of),
            silent_nodes=found.silent_nodes,
        )
