"""The operators' API in the same process, on a folder that lies here."""

from verifier.admin.context import Caller, local_caller
from verifier.admin.desk import Desk
from verifier.admin.face import Admin
from verifier.admin.service.audit import Audit
from verifier.admin.service.lifecycle import Lifecycle
from verifier.admin.service.node import Nodes
from verifier.admin.service.publication import Publications
from verifier.admin.service.usage import Usage
from verifier.control.progress import Progress, silent
from verifier.registry.database import Registry
from verifier.store.home import Home


def connect(
    home: Home, *, registry: Registry | None = None, caller: Caller | None = None, progress: Progress = silent
) -> Admin:
    """Return the services, working directly on a ``--store`` folder.

    Args:
        home: the folder.
        registry: the folder's, if it is open already.
        caller: in whose name; the user of this process, who may do everything, when None.
        progress: told how far publishing is.

    Raises:
        NotFound: there is no registry (``NOT_INITIALISED``).
        Unavailable: it cannot be used.
    """
    desk = Desk(home, registry)
    desk.publisher.progress = progress
    return at(desk, caller or local_caller(), owned=True)


def at(desk: Desk, caller: Caller, *, owned: bool = False) -> Admin:
    """Return the services at a desk, for one caller.

    Args:
        owned: close the desk with what is returned.
    """
    return Admin(
        lifecycle=Lifecycle(desk, caller),
        publication=Publications(desk, caller),
        node=Nodes(desk, caller),
        audit=Audit(desk, caller),
        usage=Usage(desk, caller),
        close=desk.close if owned else lambda: None,
    )
