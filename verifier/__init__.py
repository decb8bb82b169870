"""API-key verification for gateways: answers in microseconds, keys that rotate without downtime."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifier._answer import Answer as Answer
    from verifier.serving.keyring import Keyring as Keyring

__version__ = "0.1.0"

__all__ = ["Answer", "Keyring", "__version__"]

# Imported when asked for: the command line starts faster without the compiled modules.
_LAZY = {"Keyring": "verifier.serving.keyring", "Answer": "verifier._answer"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
