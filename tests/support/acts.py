"""One act on a registry, for tests that change something."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from verifier.control.acting import Act, acting
from verifier.registry.database import Registry

P = ParamSpec("P")
R = TypeVar("R")


def act(registry: Registry, function: Callable[Concatenate[Act, P], R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call a function that changes something, in an act of its own."""
    with acting(registry) as begun:
        return function(begun, *arguments, **options)


def act_at(now_s: int, registry: Registry, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call such a function at a given second."""
    with acting(registry, now_s=now_s) as begun:
        return function(begun, *arguments, **options)
