"""The settings of a node: one frozen object, and for every value where it came from.

Flags win over ``VERIFIER_*`` variables, these over the TOML file named with ``--config``, that over the defaults.
Names are the same everywhere: ``drain_timeout`` in the file, ``VERIFIER_DRAIN_TIMEOUT``, ``--drain-timeout``.
"""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any

from verifier.errors import InvalidInput
from verifier.limits import Limits
from verifier.server.authz import key_place, metadata_name, realm
from verifier.server.values import (
    address,
    control_address,
    duration_ms,
    duration_text,
    header_name,
    limit_bytes,
    node_name,
    number,
    one_of,
    report_interval_ms,
    size_bytes,
    size_text,
    tcp_address,
)

VARIABLE = "VERIFIER_"
CONFIG_VARIABLE = "VERIFIER_CONFIG"
LIMITS = Limits()


@dataclass(frozen=True)
class Setting:
    """How one setting is written and read.

    Attributes:
        parse: text to value; raises ValueError with what would be accepted.
        help: one sentence for help and documentation.
        metavar: what stands for the value in help.
        many: given several times on the command line, a list in the file, parted by commas in the environment.
    """

    parse: Callable[[str], Any]
    help: str
    metavar: str
    many: bool = False


def as_written(parse: Callable[[str], Any], metavar: str, help_text: str, *, many: bool = False) -> dict[str, Setting]:
    """Return the metadata of a field that is a setting."""
    return {"setting": Setting(parse, help_text, metavar, many)}


@dataclass(frozen=True)
class Settings:
    """Everything that a node can be told. Durations are in milliseconds, sizes in bytes, 0 turns a limit off."""

    store: Path | None = field(default=None, metadata=as_written(Path, "DIR",
        "Folder with store, secrets and state (the global --store)."))
    state: Path | None = field(default=None, metadata=as_written(Path, "DIR",
        "Folder for the highest revision served; DIR/state if not given."))
    listen: tuple[str, ...] = field(default=("127.0.0.1:50051",), metadata=as_written(address, "ADDRESS",
        "Address for Verify: HOST:PORT, [IPV6]:PORT or unix:PATH. May be given several times.", many=True))
    socket_mode: str = field(default="0660", metadata=as_written(one_of("0600", "0660", "0666"), "MODE",
        "Permissions of Unix sockets."))
    metrics: str = field(default="127.0.0.1:9464", metadata=as_written(tcp_address, "ADDRESS",
        "Address for metrics, status and health over HTTP; off for none."))
    threads: int = field(default=1, metadata=as_written(number(1, 256), "N",
        "Event loop threads; as many as there are cores to spend."))
    memory: str = field(default="sealed", metadata=as_written(one_of("sealed", "mapped"), "KIND",
        "Serve from sealed memory, or from the mapped file (for keyrings larger than memory)."))
    poll_interval: int = field(default=100, metadata=as_written(duration_ms, "TIME",
        "How often the store is looked at where the kernel does not tell of changes, and a revision is confirmed."))
    max_staleness: int = field(default=0, metadata=as_written(duration_ms, "TIME",
        "Answer UNAVAILABLE when the revision was not confirmed to be the newest for this long; 0 for never."))
    records_max: int = field(default=100_000_000, metadata=as_written(number(1, 1 << 32), "N",
        "Refuse publications with more records."))
    keyring_bytes_max: int = field(default=64 << 30, metadata=as_written(size_bytes, "SIZE",
        "Refuse publications with larger keyrings."))
    memory_reserve: int = field(default=64 << 20, metadata=as_written(size_bytes, "SIZE",
        "Memory that a load must leave free."))
    scrub_interval: int = field(default=3_600_000, metadata=as_written(duration_ms, "TIME",
        "Time in which all that is served is compared with its checksums once; 0 for never."))
    drain_timeout: int = field(default=30_000, metadata=as_written(duration_ms, "TIME",
        "How long calls in flight may take when stopping."))
    spin_us: int = field(default=0, metadata=as_written(number(0, 1_000_000), "US",
        "Microseconds a loop goes on looking for work before it sleeps: lower latency for a busy core."))
    connections_max: int = field(default=LIMITS.connections_max, metadata=as_written(number(1, 1_000_000), "N",
        "Open connections, over all threads; more are closed when they are accepted."))
    streams_max: int = field(default=LIMITS.streams_max, metadata=as_written(number(1, 100_000), "N",
        "Calls in flight on one connection."))
    message_bytes_max: int = field(default=LIMITS.message_bytes_max, metadata=as_written(limit_bytes, "SIZE",
        "Largest request message."))
    header_bytes_max: int = field(default=LIMITS.header_bytes_max, metadata=as_written(limit_bytes, "SIZE",
        "Largest block of request headers."))
    header_fields_max: int = field(default=LIMITS.header_fields_max, metadata=as_written(number(1, 10_000), "N",
        "Most fields in a block of request headers."))
    held_bytes_max: int = field(default=LIMITS.held_bytes_max, metadata=as_written(limit_bytes, "SIZE",
        "Most that one connection may make the node hold: unfinished requests, answers not taken."))
    preface_timeout: int = field(default=LIMITS.preface_ms, metadata=as_written(duration_ms, "TIME",
        "Time for a client to say what HTTP/2 begins with, and for each request in HTTP/1.1."))
    idle_timeout: int = field(default=LIMITS.idle_ms, metadata=as_written(duration_ms, "TIME",
        "Ask clients to reconnect when nothing arrived for this long; 0 for never."))
    connection_age_max: int = field(default=LIMITS.age_ms, metadata=as_written(duration_ms, "TIME",
        "Ask clients to reconnect after this long, give or take a tenth; 0 for never."))
    connection_grace: int = field(default=LIMITS.grace_ms, metadata=as_written(duration_ms, "TIME",
        "How long calls in flight may take once a connection was asked to go."))
    stall_timeout: int = field(default=LIMITS.stall_ms, metadata=as_written(duration_ms, "TIME",
        "How long a client may leave answers untaken."))
    resets_burst: int = field(default=LIMITS.resets_burst, metadata=as_written(number(1, 1000), "N",
        "Streams of one connection that may be reset at once, in either direction."))
    resets_per_s: int = field(default=LIMITS.resets_per_s, metadata=as_written(number(0, 100_000), "N",
        "Resets per second for which a connection is forgiven."))
    control_burst: int = field(default=LIMITS.control_burst, metadata=as_written(number(1, 10_000_000), "N",
        "Frames other than requests that one connection may send at once."))
    control_per_s: int = field(default=LIMITS.control_per_s, metadata=as_written(number(0, 10_000_000), "N",
        "Such frames per second for which a connection is forgiven."))
    authz: str = field(default="on", metadata=as_written(one_of("on", "off"), "CHOICE",
        "Whether gateways are answered: Envoy's Check (ext_authz), and /v1/authz."))
    authz_keys: tuple[str, ...] = field(default=("authorization: Bearer", "x-api-key"),
                                        metadata=as_written(key_place, "PLACE",
        "Where a request may have its key: HEADER, HEADER: SCHEME or query:NAME. May be given several times.",
        many=True))
    authz_realm: str = field(default="api", metadata=as_written(realm, "TEXT",
        "Realm in WWW-Authenticate."))
    authz_disclose: str = field(default="full", metadata=as_written(one_of("full", "minimal"), "LEVEL",
        "What a refused caller is told: why (full), or the same for every 401 (minimal)."))
    authz_metadata: tuple[str, ...] = field(default=(), metadata=as_written(metadata_name, "NAME",
        "Metadata of keys that upstreams get as x-verifier-NAME. May be given several times.", many=True))
    authz_deprecation: str = field(default="on", metadata=as_written(one_of("on", "off"), "CHOICE",
        "Whether callers with a retiring key get Deprecation and Sunset, besides X-API-Key-Phase."))
    authz_forwarded_hops: int = field(default=0, metadata=as_written(number(0, 8), "N",
        "Trusted proxies that append to X-Forwarded-For; 0 takes the address that the gateway tells."))
    authz_faults: str = field(default="fail", metadata=as_written(one_of("fail", "answer"), "CHOICE",
        "How Check says that keys cannot be verified: the call fails, or it is answered with error_response."))
    http_listen: tuple[str, ...] = field(default=(), metadata=as_written(address, "ADDRESS",
        "Address for plain HTTP (/v1/authz, /v1/verify) in HTTP/1.1 and HTTP/2; may be one of those of listen.",
        many=True))
    http_address_header: str | None = field(default=None, metadata=as_written(header_name, "HEADER",
        "Header in which gateways tell /v1/authz who connected to them, such as x-real-ip; none if not given."))
    http_header_bytes_max: int = field(default=LIMITS.head_bytes_max, metadata=as_written(limit_bytes, "SIZE",
        "Largest head of a plain HTTP request, which brings what its caller sent to the gateway."))
    http_header_fields_max: int = field(default=LIMITS.head_fields_max, metadata=as_written(number(1, 256), "N",
        "Most header fields of a plain HTTP request."))
    report_to: str | None = field(default=None, metadata=as_written(control_address, "ADDRESS",
        "Control plane to report status and usage to, HOST:PORT or unix:PATH; nothing is counted without it."))
    node_name: str | None = field(default=None, metadata=as_written(node_name, "NAME",
        "Name in reports, unique among the nodes of a store; host name and port if not given."))
    report_interval: int = field(default=10_000, metadata=as_written(report_interval_ms, "TIME",
        "How often usage is reported."))
    report_token_file: Path | None = field(default=None, metadata=as_written(Path, "FILE",
        "File that holds the token for reports, of the role node."))
    report_ca: str | None = field(default=None, metadata=as_written(str, "FILE",
        "Certificates that the control plane is trusted by, or system for the machine's; none for no TLS."))
    report_cert: Path | None = field(default=None, metadata=as_written(Path, "FILE",
        "Certificate for reports, where the control plane asks for one."))
    report_key: Path | None = field(default=None, metadata=as_written(Path, "FILE",
        "Key of that certificate."))
    report_plaintext: str = field(default="refuse", metadata=as_written(one_of("refuse", "allow"), "CHOICE",
        "Whether reports may go to another machine without TLS: refuse or allow."))
    log_format: str = field(default="text", metadata=as_written(one_of("text", "json"), "FORMAT",
        "How log lines are written: text or json."))
    log_level: str = field(default="info", metadata=as_written(one_of("debug", "info", "warning", "error"), "LEVEL",
        "Least level that is logged: debug, info, warning or error."))


@dataclass(frozen=True)
class Sourced:
    """Settings, and for each name where its value came from."""

    settings: Settings
    sources: Mapping[str, str]

    def shown(self) -> dict[str, Any]:
        """Return every value as it would be written in the file, with passwords blanked."""
        return {each.name: _shown(getattr(self.settings, each.name), setting_of(each)) for each in fields()}


def _shown(value: Any, setting: Setting) -> Any:
    if isinstance(value, tuple):
        return [_shown(item, setting) for item in value]
    if value is None:
        return None
    if setting.parse in {duration_ms, report_interval_ms}:
        return duration_text(value)
    if setting.parse in {size_bytes, limit_bytes}:
        return size_text(value)
    if isinstance(value, int):
        return value
    return re.sub(r"(:/+)[^/@\s]+@", r"\1[redacted]@", str(value))


def setting_of(each: "Field[Any]") -> Setting:
    """Return how a field of :class:`Settings` is written and read."""
    setting: Setting = each.metadata["setting"]
    return setting


def fields() -> tuple["Field[Any]", ...]:
    """Return the fields of :class:`Settings` in order."""
    return dataclasses.fields(Settings)


def read_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None
) -> Sourced:
    """Bring flags, environment and file together.

    Args:
        flags: values from the command line as text (several for settings that allow it), None where not given.
        environment: the process's environment.
        config: the TOML file; None reads the one named by ``VERIFIER_CONFIG``, if any.

    Raises:
        InvalidInput: an unknown key, or a value that is not accepted; says where it stands and what would do.
    """
    if config is None and environment.get(CONFIG_VARIABLE):
        config = Path(environment[CONFIG_VARIABLE])
    table = {} if config is None else read_file(config)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for each in fields():
        name, setting = each.name, setting_of(each)
        variable = VARIABLE + name.upper()
        given = flags.get(name)
        if given is not None and given != ():
            value, source = given, "--" + name.replace("_", "-")
        elif environment.get(variable):
            text = environment[variable]
            value = [part.strip() for part in text.split(",")] if setting.many else text
            source = variable
        elif name in table:
            value, source = table[name], f"{config}: {name}"
        else:
            sources[name] = "default"
            continue
        values[name] = _read(value, setting, source)
        sources[name] = source
    return Sourced(Settings(**values), sources)


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings.

    Raises:
        InvalidInput: it cannot be read, is not TOML, or has a key that is no setting.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    names = [each.name for each in fields()]
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(key, names, 1)
            raise InvalidInput(
                f"{path}: {key!r} is not a setting",
                hint=f"did you mean {close[0]}?" if close else "verifier config show lists all settings",
            )
    return table


def unknown_variables(environment: Mapping[str, str], known: tuple[str, ...] = ()) -> list[str]:
    """Name ``VERIFIER_*`` variables that look like a misspelt setting.

    Only a hint, never an error: orchestrators set variables such as ``VERIFIER_SERVICE_HOST`` of their own accord.
    """
    names = [VARIABLE + each.name.upper() for each in fields()] + [CONFIG_VARIABLE, *known]
    return sorted(
        name for name in environment
        if name.startswith(VARIABLE) and name not in names and difflib.get_close_matches(name, names, 1, 0.85)
    )


def _read(value: Any, setting: Setting, source: str) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    if not setting.many and isinstance(value, list | tuple):
        raise InvalidInput(f"{source}: one value is wanted, not a list")
    parsed = tuple(_parse(item, setting, source) for item in items)
    return parsed if setting.many else parsed[0]


def _parse(item: Any, setting: Setting, source: str) -> Any:
    try:
        return setting.parse(_text(item))
    except ValueError as error:
        raise InvalidInput(f"{source}: {item!r} is not accepted: {error}") from None


def _text(value: Any) -> str:
    """Return a value of the file as text, so that all sources are read by the same rules."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("write text or a whole number")
    return str(value)
