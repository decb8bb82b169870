"""Publications under traffic: no failed call, no answer that mixes two keyrings, no revision that falls."""

import threading

import grpc

from tests.support.image import Facts
from tests.support.node import RunningNode, until
from tests.support.publications import Stocked, native
from verifier.v1 import verifier_pb2, verifier_pb2_grpc

FIRST, SECOND = native(1), native(2)


class Hammer:
    """A client that asks without pause on one connection, and checks every answer."""

    def __init__(self, node: RunningNode) -> None:
        self.calls = 0
        self.faults: list[str] = []
        self.revisions: set[int] = set()
        self._stop = threading.Event()
        self._node = node
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        highest = 0
        with self._node.channel() as channel:
            stub = verifier_pb2_grpc.VerifierServiceStub(channel)
            batch = verifier_pb2.VerifyBatchRequest(
                requests=[verifier_pb2.VerifyRequest(key=token) for token in (FIRST, SECOND, FIRST)])
            while not self._stop.is_set():
                try:
                    answers = [stub.Verify(verifier_pb2.VerifyRequest(key=FIRST), timeout=10)]
                    answers += stub.VerifyBatch(batch, timeout=10).responses
                except grpc.RpcError as error:
                    self.faults.append(f"{error.code()} {error.details()}")
                    return
                self.calls += 2
                for answer in answers:
                    canary = int(answer.metadata["revision"])
                    if answer.verdict != verifier_pb2.VERDICT_VALID or canary != answer.revision:
                        self.faults.append(f"mixed: {answer}")
                    if answer.revision < highest:
                        self.faults.append(f"{answer.revision} after {highest}")
                    highest = max(highest, answer.revision)
                    self.revisions.add(answer.revision)

    def wait_for(self, revision: int) -> None:
        """Wait until an answer came from this revision, or there is a fault to report."""
        until(lambda: bool(self.faults) or max(self.revisions, default=0) >= revision)

    def stop(self) -> None:
        """End, with the call in flight."""
        self._stop.set()
        self._thread.join(15)


def canary(revision: int) -> dict[str, Facts]:
    """What is published: every record names the revision."""
    return {token: Facts(metadata={"revision": str(revision)}) for token in (FIRST, SECOND)}


def swap_under_traffic(stocked: Stocked, threads: int, swaps: int) -> None:
    """Publish while three clients hammer a node, and check what they and the node saw."""
    stocked.publish(canary(1))
    with RunningNode(stocked.home.folder, "--threads", str(threads)) as node:
        node.wait_for("serving", revision=1)
        hammers = [Hammer(node) for _ in range(3)]
        for number in range(2, swaps + 2):
            if number % 2:  # alternately a new base, and a delta on the old one
                stocked.publish(canary(number))
            else:
                stocked.publish(canary(number - 1), canary(number))
            hammers[0].wait_for(number)
        for hammer in hammers:
            hammer.stop()
        assert [] == [fault for hammer in hammers for fault in hammer.faults]
        assert len(hammers[0].revisions) > swaps * 0.9
        assert swaps + 1 == node.metric("verifier_swap_seconds_count")
        assert (swaps + 1, None) == (node.status()["revision"], node.status()["last_refusal"])
