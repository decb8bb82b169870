"""Policies as people write them: options, or NAME=VALUE, laid over the policy that there is."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Duration, duration_text, pairs
from verifier.cli._present import CLOCKS, policy_json
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.admin.v1 import types_pb2

NEVER = ("max_age", "expires_in")  # may be "never", which is written as zero
DURATIONS = ("max_age", "overlap", "max_pending", "expires_in", "min_quiet")
NAMES = ("max_age", "overlap", "clock", "max_pending", "notices", "expires_in", "retire_when_safe", "min_quiet",
         "max_live")  # fmt: skip
SHOWN_NAMES = ", ".join(name.replace("_", "-") for name in NAMES)
YES_NO = {"yes": True, "true": True, "no": False, "false": False}

policy_option = click.option(
    "--policy", "policy", multiple=True, metavar="NAME=VALUE",
    help="How it is rotated: overlap=24h, clock=on_first_use and so on, as `verifier policy set --help` says; an empty "
    "value leaves it to the level above. May be repeated.",
)  # fmt: skip


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every part of a policy; the command gets their texts by name."""
    helps = {
        "max_age": ("DURATION", "Age at which the schedule replaces a version; or never."),
        "overlap": ("DURATION", "How long a replaced version stays valid."),
        "clock": ("|".join(CLOCKS), "When the overlap begins to run: with the activation of the successor, with its "
                  "first use, or not before somebody retires it."),
        "max_pending": ("DURATION", "With on_first_use: the longest wait for the first use."),
        "notices": ("A,B", "How long before an end to remind: 14d,7d,1d."),
        "expires_in": ("DURATION", "Life of a new version from its activation; or never."),
        "retire_when_safe": ("yes|no", "Retire a replaced version early once that is safe."),
        "min_quiet": ("DURATION", "Shortest time without use that counts as quiet."),
        "max_live": ("N", "Most versions of a key that may be live at once."),
    }
    for name in reversed(NAMES):
        metavar, text = helps[name]
        command = click.option(f"--{name.replace('_', '-')}", name, metavar=metavar, help=text)(command)
    return command


def laid_over(present: "types_pb2.Policy", said: Mapping[str, str]) -> "types_pb2.Policy":
    """Return a policy with some parts said anew.

    Args:
        present: what there is.
        said: texts by name; an empty text leaves that part to the level above.

    Raises:
        InvalidInput: a name or a text is not usable (``BAD_POLICY``).
    """
    from verifier.admin.v1 import types_pb2

    policy = types_pb2.Policy()
    policy.CopyFrom(present)
    for name, text in said.items():
        if name not in NAMES:
            raise _bad(f"a policy has no part {name[:40]!r}", f"its parts are {SHOWN_NAMES}")
        policy.ClearField(name)
        if text:
            _write(policy, name, text)
    return policy


def said_in(values: Sequence[str]) -> dict[str, str]:
    """Read ``--policy`` options."""
    return {name.replace("-", "_"): text for name, text in pairs(values, "policy").items()}


def _write(policy: "types_pb2.Policy", name: str, text: str) -> None:
    if name == "clock":
        if text not in CLOCKS:
            raise _bad(f"{text[:40]!r} is no clock", f"one of {', '.join(CLOCKS)}")
        policy.clock = CLOCKS.index(text) + 1  # type: ignore[assignment]  # the same numbers
    elif name == "retire_when_safe":
        if text not in YES_NO:
            raise _bad("retire-when-safe is yes or no", None)
        policy.retire_when_safe = YES_NO[text]
    elif name == "max_live":
        if not text.isdecimal() or not int(text):
            raise _bad("max-live is a number of versions", None)
        policy.max_live = int(text)
    elif name == "notices":
        for part in text.split(","):
            policy.notices.add(seconds=_seconds(name, part.strip()))
    else:
        getattr(policy, name).seconds = _seconds(name, text)
        getattr(policy, name).SetInParent()


def _seconds(name: str, text: str) -> int:
    if text == "never" and name in NEVER:
        return 0
    try:
        return Duration().convert(text, None, None)
    except click.BadParameter as error:
        raise _bad(f"{name.replace('_', '-')}: {error.message}", None) from None


def _bad(message: str, hint: str | None) -> InvalidInput:
    return InvalidInput(message, hint=hint, code="BAD_POLICY")


def policy_text(policy: "types_pb2.Policy") -> str:
    """Write a policy for people, as ``--policy`` reads it; a dash when it says nothing."""
    return policy_line(policy_json(policy))


def policy_line(body: Mapping[str, Any]) -> str:
    """Write the JSON form of a policy as one line."""
    return " ".join(f"{name}={text}" for name, text in policy_rows(body)) or "-"


def policy_rows(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write the JSON form of a policy as names and texts."""
    rows = []
    for name in NAMES:
        value = body.get(f"{name}_s", body.get(name))
        if value is None:
            continue
        if isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, list):
            text = ",".join(map(duration_text, value))
        elif name in NEVER and not value:
            text = "never"
        else:
            text = duration_text(value) if name in DURATIONS else str(value)
        rows.append((name.replace("_", "-"), text))
    return rows
