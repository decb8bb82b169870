"""What a reconciliation takes along, what it tells the audit log, and undoing the revocations that it took over."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.life import Life, make_life
from verifier.control import clients, journal, keys, reinstating
from verifier.control.reconciling import reconcile
from verifier.errors import Conflict
from verifier.registry import audit, queries
from verifier.serving.keyring import Keyring
from verifier.store.home import Home
from verifier.vocabulary import RevocationReason, Verdict

SUPERSEDED = RevocationReason.SUPERSEDED


def entries_of(life: Life, action: str) -> list[tuple[audit.Entry, dict[str, Any]]]:
    with life.registry() as registry, registry.read() as connection:
        return [(one, json.loads(one.details)) for one in audit.entries(connection) if one.action.startswith(action)]


def test_what_was_taken_over_is_told_and_its_revocations_can_be_undone(registry_place: Home):
    life = Life(registry_place)
    acme, off = life.client(), life.client()
    soft, hard, shut = (life.key(acme) for _ in range(3))
    life.publish()
    restore = life.back_up()
    life.revoke(soft, 1, reason=SUPERSEDED)
    life.revoke(hard, 1)
    late = life.key(acme)
    life.revoke(late, 1, reason=SUPERSEDED)
    life.do(keys.set_key_enabled, shut, False)
    life.do(clients.set_client_enabled, off, False)
    life.publish()
    restore()
    reconcile(life.home, now_s=life.now_s)
    (head, sums), *told = entries_of(life, "registry.reconcile")
    assert (sums["versions_added"], sums["revoked"], sums["switched_off"]) == (1, 2, 2)
    assert all(details["of"] == head.audit_id for _, details in told)
    by_key = {entry.key_id or entry.client_id: (entry, details) for entry, details in told}
    assert {soft, hard, shut, late, off} == by_key.keys()
    assert [by_key[one][1].get("reason") for one in (soft, hard, late, shut)] == [
        "superseded", "key_compromise", "superseded", None]  # fmt: skip
    with pytest.raises(Conflict) as refused:
        life.do(reinstating.reinstate, by_key[hard][0].audit_id)
    assert refused.value.code == "COMPROMISED"
    done = life.do(reinstating.reinstate, by_key[late][0].audit_id)
    assert (done.count, done.kept) == (1, 0)
    done = life.do(reinstating.reinstate, head.audit_id)
    assert (done.count, done.kept) == (1, 1)
    life.publish()
    with Keyring.open(life.home.folder, watch=False) as keyring:
        verdicts = [keyring.verify(life.tokens[one, 1], ["read"]).verdict for one in (soft, late, hard, shut)]
    assert [Verdict.VALID, Verdict.VALID, Verdict.REVOKED, Verdict.KEY_DISABLED] == verdicts
    with pytest.raises(Conflict) as refused:
        life.now_s += 31 * 86_400
        life.do(reinstating.reinstate, head.audit_id)
    assert refused.value.code == "TOO_OLD"
    life.close()


def test_of_very_many_all_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "TOLD_ONE_BY_ONE_MAX", 3)
    life = make_life(tmp_path / "home")
    acme = life.client()
    ours = [life.key(acme) for _ in range(7)]
    life.publish()
    restore = life.back_up()
    for one in ours:
        life.revoke(one, reason=SUPERSEDED)
        life.key(acme)
    life.do(keys.set_key_enabled, ours[0], False)
    life.publish()
    restore()
    reconcile(life.home, now_s=life.now_s)
    (head, _), *told = entries_of(life, "registry.reconcile")
    for what in ("added", "revoked"):
        spans = [span for _, details in told for span in details.get(what, [])]
        assert 7 == sum(last - first + 1 for first, last in spans)
    assert len(told) < 8
    assert [ours[0]] == [name for entry, details in told for name in details.get("keys", [entry.key_id])
                         if entry.action.endswith("switched_off")]
    assert life.do(reinstating.reinstate, head.audit_id).count == 7
    life.close()


def test_prefixes_come_along(tmp_path: Path):
    life = make_life(tmp_path / "home")
    life.key(life.client(), prefix="vk_test")
    restore = life.back_up()
    life.publish()
    restore()
    life.close()
    life.home.registry_file.unlink()
    reconcile(life.home)
    with life.registry() as registry, registry.read() as connection:
        assert ["vk_test"] == [key.prefix for key in queries.list_keys(connection)]
        assert [("vk_test", "NATIVE")] == queries.prefix_modes(connection)
