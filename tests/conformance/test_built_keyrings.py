"""Keyrings as publishers build them, served as nodes serve them, against the reference.

The other tests here lay keyrings out by hand; this one goes through the record encoder and the builder, so that all
that lies between the operators' facts and an answer's bytes is compared with the plain reference at least once.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.comparing import outcome
from tests.conformance.reference import Entry, Moment, World
from tests.conformance.requests import Requests
from tests.conformance.server import InProcess, Reference
from tests.conformance.worlds import CLIENTS, random_world
from verifier._map import Map
from verifier._view import View
from verifier.keyring.builder import build_keyring
from verifier.keyring.description import KeyringDescription
from verifier.keyring.records import Record, encode_absent, encode_record


def record_of(entry: Entry, ordinal: int) -> Record:
    """An entry in the terms of the keyring room."""
    return Record(
        client_id=entry.client_id, key_id=entry.key_id, version=entry.version, not_before=entry.not_before,
        expires_at=entry.expires_at, superseded_at=entry.superseded_at, superseded_by=entry.superseded_by,
        reason=entry.reason if entry.revoked else None, revoked=entry.revoked, key_off=entry.key_off,
        watch=bool(ordinal % 2), own_end=entry.expires_at, version_ordinal=ordinal,
        client_ordinal=entry.client_ordinal, scopes=entry.scopes, metadata=entry.metadata, rules=entry.rules,
    )


def build(folder: Path, world: World, part: Mapping[bytes, Entry | None], base: str | None) -> KeyringDescription:
    rows = [
        (tag, encode_absent(tag) if entry is None else encode_record(record_of(entry, ordinal), tag))
        for ordinal, (tag, entry) in enumerate(part.items())
    ]
    return build_keyring(
        folder, rows, kind="delta" if base else "base", base=base, peppers=["p1"],
        prefixes=list(world.prefixes.items()), accepts_foreign=world.accepts_foreign,
        clients_off=world.clients_off, client_count=CLIENTS,
    )


def serve(folder: Path, world: World) -> View:
    """Build base and delta, and make a view of the files."""
    base = build(folder, world, world.base, None)
    delta = build(folder, world, world.delta, base.sha256) if world.delta else None
    newest = delta or base

    def mapped(description: KeyringDescription) -> Map:
        return Map.sealed(str(folder / f"{description.sha256}.mdb"), description.bytes)

    view = View(
        mapped(base), (base.slots.offset, base.slots.bytes), (newest.switches.offset, newest.switches.bytes),
        list(world.peppers), list(world.prefixes.items()), world.accepts_foreign, world.revision,
        mapped(delta) if delta else None, (delta.slots.offset, delta.slots.bytes) if delta else None,
    )
    assert len(world.base) + len(world.delta) == view.check()
    return view


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_those_of_the_reference(tmp_path, seed):
    # A record has room for any of these facts, not for all of them at their largest: the builder refuses that.
    world, tokens = random_world(100 + seed, int(time.time()), keys=300, accepts_foreign=seed == 2)
    if seed == 1:
        world = replace(world, delta={})
    plain, built = Reference(world, lambda: Moment(int(time.time()))), InProcess(world, serve(tmp_path, world))
    requests = Requests(seed, tokens, world.revision)
    for _ in range(3000):
        message = requests.request()
        assert outcome(plain.verify, message) == outcome(built.verify, message), message.hex()
