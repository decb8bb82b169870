"""LifecycleService: the life of clients, keys and versions."""

from verifier.admin.service.clients import Clients
from verifier.admin.service.importing import Importing
from verifier.admin.service.keys import Keys
from verifier.admin.service.policy import StorePolicy
from verifier.admin.service.retirement import Retirement
from verifier.admin.service.revoking import Revoking
from verifier.admin.service.rotation import Rotation


class Lifecycle(Clients, Keys, Rotation, Revoking, Importing, Retirement, StorePolicy):
    """All of LifecycleService, part by part."""
