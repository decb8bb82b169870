"""The policy of the whole store."""

from verifier.admin.policies import policy_message, policy_of
from verifier.admin.service.handlers import Handlers
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control import scheduling
from verifier.control.acting import Act
from verifier.control.policy import BUILT_IN, effective


class StorePolicy(Handlers):
    """The part of LifecycleService that is about the policy of the whole store."""

    def GetStorePolicy(self, request: pb.GetStorePolicyRequest) -> pb.GetStorePolicyResponse:
        """Return the policy of the whole store."""
        with self._desk.registry.read() as connection:
            policy = scheduling.store_policy(connection)
        return pb.GetStorePolicyResponse(
            policy=policy_message(policy), effective_policy=policy_message(effective(policy, BUILT_IN))
        )

    def UpdateStorePolicy(self, request: pb.UpdateStorePolicyRequest) -> pb.UpdateStorePolicyResponse:
        """Set the policy of the whole store, which holds where neither key nor client says otherwise."""
        policy = policy_of(request.policy)

        def work(act: Act, response: pb.UpdateStorePolicyResponse) -> None:
            scheduling.set_store_policy(act, policy)
            stored = scheduling.store_policy(act.connection)
            response.policy.CopyFrom(policy_message(stored))
            response.effective_policy.CopyFrom(policy_message(effective(stored, BUILT_IN)))

        return self._change(request, pb.UpdateStorePolicyResponse(), work)
