"""``verifier keyring``: look into keyring files and verify them, without store, secrets or node."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Moment, json_option, print_json, time_text
from verifier.cli._progress import progress_bar
from verifier.errors import InvalidInput, UnsoundPublication

if TYPE_CHECKING:
    from verifier.keyring.inspect import Found, Report

MARKS = {True: "ok", False: "FAILED", None: "skipped"}
FLAGS = ("key_off", "client_off", "watch", "with_rules", "absent")
PHASES = ("pending", "current", "retiring", "expired", "revoked")
HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def command() -> None:
    """Look into keyring files and verify them."""


@command.command()
@file_argument
@click.option("--tag", metavar="HEX", help="Show the record whose tag begins with these hex digits.")
@click.option("--record", "index", type=click.IntRange(0), metavar="N",
              help="Show the record at this place in the order of tags, from 0 on.")
@click.option("--at", type=Moment(), default=None, metavar="TIME", help="Decide phases at this time instead of now.")
@json_option
def inspect(file: Path, tag: str | None, index: int | None, at: int | None, as_json: bool) -> None:
    """Say what is in the keyring FILE, or show one record of it."""
    from verifier.keyring.inspect import find_index, find_tag

    now_s = int(time.time()) if at is None else at
    if tag is not None and index is not None:
        raise InvalidInput("give --tag or --record, not both")
    if tag is not None and not (tag and set(tag) <= HEX_DIGITS):
        raise InvalidInput("a tag is written in hex digits")
    if tag is not None:
        body = _record(find_tag(file, tag), now_s)
    elif index is not None:
        body = _record(find_index(file, index), now_s)
    else:
        body = _summary(file, now_s)
    if as_json:
        print_json(body)
    else:
        _print(body)


@command.command()
@file_argument
@click.option("--sha256", metavar="HEX", help="What the file's SHA-256 must be, if its name does not say so.")
@json_option
def verify(file: Path, sha256: str | None, as_json: bool) -> None:
    """Check all of the keyring FILE: digest, structure, every record and its way through the index.

    Exits with 0 when it is sound, 3 when it is not.
    """
    from verifier.keyring.inspect import verify_file

    with progress_bar("verify") as progress:
        report = verify_file(file, sha256=sha256.lower() if sha256 else None, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    if not report.sound:
        sys.exit(UnsoundPublication.exit_code)


def _summary(file: Path, now_s: int) -> dict[str, Any]:
    from verifier.keyring.inspect import count, describe

    with progress_bar("inspect") as progress:
        keyring, header = describe(file, progress)
    counts = count(file, now_s)
    records = counts["records"]
    body = {"file": str(file), **keyring.to_json(), "builder": header.get("builder")}
    return body | {
        "bytes_per_key": round(keyring.bytes / records, 1) if records else None,
        "record_bytes_mean": round(counts["record_bytes"] / records, 1) if records else None,
        "record_bytes_max": counts["record_bytes_max"] if records else None,
        "at": time_text(now_s),
        "phases": {name.upper(): counts[name] for name in PHASES},
        "flags": {name: counts[name] for name in FLAGS},
        "usable": counts["valid"],
    }


def _record(found: "Found", now_s: int) -> dict[str, Any]:
    from verifier.keyring.inspect import phase_at

    record = found.record
    return {
        "tag_head": found.tag[:16].hex(),
        "index": found.index,
        "offset": found.offset,
        "record_bytes": len(found.value),
        "at": time_text(now_s),
        "phase": None if record.absent else phase_at(record, now_s).name,
        "client_id": record.client_id,
        "key_id": record.key_id,
        "version": record.version,
        **{name: time_text(getattr(record, name)) for name in ("not_before", "expires_at", "superseded_at")},
        "superseded_by": record.superseded_by or None,
        "own_end": time_text(record.own_end),
        "key_end": time_text(record.key_end),
        "revoked": record.revoked,
        "revocation_reason": None if record.reason is None else record.reason.name,
        "key_off": record.key_off,
        "client_off": found.client_off,
        "watch": record.watch,
        "absent": record.absent,
        "version_ordinal": record.version_ordinal,
        "client_ordinal": record.client_ordinal,
        "scopes": list(record.scopes),
        "rules": list(record.rules),
        "metadata": dict(record.metadata),
        "hex": found.value.hex(),
    }


def _print(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if value not in (None, [], {}):
            click.echo(f"{name.replace('_', ' ') + ':':20}{_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict) and "xxh3_64" in value:
        return f"{len(value['xxh3_64'])} of {value['bytes']} bytes"
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(" ".join(each) if isinstance(each, list) else str(each) for each in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _print_report(report: "Report") -> None:
    for check in report.checks:
        click.echo(f"{check.name:10} {MARKS[check.passed]:8} {check.detail}")
    outcome = "is sound" if report.sound else "is NOT SOUND: do not serve it"
    if report.sound and any(check.name == "digest" and check.passed is None for check in report.checks):
        outcome = "has no fault that shows without its digest; give it with --sha256 to be sure"
    click.echo(f"{report.path.name} {outcome} ({report.took_s:.1f} s)")
