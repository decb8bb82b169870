"""The settings of a control plane: what ``verifier control`` takes, as options or ``VERIFIER_CONTROL_*`` variables."""

import dataclasses
from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any

from verifier.control.pruning import VERSIONS_OLDER_THAN_MIN_S
from verifier.control.schedule import ROTATIONS_PER_TURN
from verifier.control.usage import EVENTS_DAYS
from verifier.errors import InvalidInput
from verifier.server.settings import Setting, as_written
from verifier.server.values import address, duration_ms, number, one_of, tcp_address, yes_no

VARIABLE = "VERIFIER_CONTROL_"
EVENTS_MIN_MS = 7 * 86_400_000


def interval_ms(text: str) -> int:
    """Read how often the schedule has its turn."""
    value_ms = duration_ms(text)
    if not 100 <= value_ms <= 60_000:
        raise ValueError("write 100ms to 60s")
    return value_ms


def versions_ms(text: str) -> int:
    """Read how long versions are kept after their end."""
    value_ms = duration_ms(text)
    if value_ms and value_ms < VERSIONS_OLDER_THAN_MIN_S * 1000:
        raise ValueError("write 90d or more, or 0")
    return value_ms


def events_ms(text: str) -> int:
    """Read how long events are kept."""
    value_ms = duration_ms(text)
    if value_ms and value_ms < EVENTS_MIN_MS:
        raise ValueError("write 7d or more, or 0")
    return value_ms


@dataclass(frozen=True)
class ControlSettings:
    """Everything that a control plane can be told. Durations are in milliseconds; 0 turns what it is about off."""

    listen: str = field(default="127.0.0.1:50061", metadata=as_written(address, "ADDRESS",
        "Address for the operators' API and for reports of nodes: HOST:PORT or unix:PATH."))
    tls_cert: Path | None = field(default=None, metadata=as_written(Path, "FILE",
        "Certificate to show (PEM); needed unless only this machine can reach the address."))
    tls_key: Path | None = field(default=None, metadata=as_written(Path, "FILE",
        "Its private key (PEM)."))
    tls_client_ca: Path | None = field(default=None, metadata=as_written(Path, "FILE",
        "Authorities that callers' certificates must be from (PEM); then every caller needs one."))
    metrics: str = field(default="127.0.0.1:9465", metadata=as_written(tcp_address, "ADDRESS",
        "Address for metrics, status and health over HTTP; off for none."))
    handout: Path | None = field(default=None, metadata=as_written(Path, "DIR",
        "Folder for the tokens of keys that the schedule rotates; without it they are only said to be due."))
    interval: int = field(default=1000, metadata=as_written(interval_ms, "TIME",
        "How often the schedule has its turn, and a standby tries to lead."))
    rotations_per_turn: int = field(default=ROTATIONS_PER_TURN, metadata=as_written(number(1, 10_000), "N",
        "Most keys that the schedule rotates in one turn."))
    publish_pending: int = field(default=0, metadata=as_written(duration_ms, "TIME",
        "Publish what was recorded with --no-publish once it has waited this long; 0 leaves that to its author."))
    prune_interval: int = field(default=0, metadata=as_written(duration_ms, "TIME",
        "How often to prune publications, by the defaults of `publications prune`; 0 for never."))
    full_addresses: bool = field(default=False, metadata=as_written(yes_no, "yes|no",
        "Keep whole addresses of those who use watched versions, not only their /24 or /48 network."))
    keep_versions: int = field(default=0, metadata=as_written(versions_ms, "TIME",
        "Remove versions that ended this long ago, once a day, such as 400d; 90d at least, 0 to keep them."))
    keep_events: int = field(default=EVENTS_DAYS * 86_400_000, metadata=as_written(events_ms, "TIME",
        "How long rows of the table of events are kept; 7d at least, 0 for ever."))
    drain_timeout: int = field(default=20_000, metadata=as_written(duration_ms, "TIME",
        "How long calls in flight may take when stopping."))
    log_format: str = field(default="text", metadata=as_written(one_of("text", "json"), "FORMAT",
        "How log lines are written: text or json."))
    log_level: str = field(default="info", metadata=as_written(one_of("debug", "info", "warning", "error"), "LEVEL",
        "Least level that is logged: debug, info, warning or error."))


def fields() -> "tuple[Field[Any], ...]":
    """Return the fields of :class:`ControlSettings` in order."""
    return dataclasses.fields(ControlSettings)


def setting_of(each: "Field[Any]") -> Setting:
    """Return how a field of :class:`ControlSettings` is written and read."""
    setting: Setting = each.metadata["setting"]
    return setting


def read_settings(given: Mapping[str, str | None]) -> ControlSettings:
    """Read settings that were given as text; the others keep their defaults.

    Raises:
        InvalidInput: a value is not accepted; says what would do.
    """
    values = {}
    for each in fields():
        text = given.get(each.name)
        if not text:
            continue
        try:
            values[each.name] = setting_of(each).parse(text)
        except ValueError as error:
            option = "--" + each.name.replace("_", "-")
            raise InvalidInput(f"{option}: {text!r} is not accepted: {error}") from None
    settings = ControlSettings(**values)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidInput("a certificate and its key belong together: give both or neither", code="BAD_TLS")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        raise InvalidInput("--tls-client-ca needs --tls-cert and --tls-key", code="BAD_TLS")
    return settings
