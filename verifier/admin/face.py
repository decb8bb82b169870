"""What the operators' API looks like to who uses it, wherever it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who reaches it over the network needs none of this
    from verifier.admin.service.audit import Audit
    from verifier.admin.service.lifecycle import Lifecycle
    from verifier.admin.service.node import Nodes
    from verifier.admin.service.publication import Publications
    from verifier.admin.service.usage import Usage


@dataclass(frozen=True, slots=True)
class Admin:
    """The services of the operators' API. Every method takes a request, returns a response, and raises our errors.

    Use as a context manager, or call ``close`` at the end.

    Attributes:
        lifecycle: clients, keys and versions.
        publication: publications of the store.
        node: nodes and their reports.
        audit: the audit log.
        usage: how much keys are used.
        close: lets go of what it holds.
    """

    lifecycle: "Lifecycle"
    publication: "Publications"
    node: "Nodes"
    audit: "Audit"
    usage: "Usage"
    close: Callable[[], None]

    def __enter__(self) -> "Admin":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
