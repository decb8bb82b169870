"""Nodes without a network: they load publications as a node does, and remember on disk what they served."""


from tests.support.history.model import Published
from tests.support.life_model import NEVER
from verifier._answer import Answer
from verifier.errors import UnsoundPublication
from verifier.serving.highest import HighestServed
from verifier.serving.loading import Publication, load_publication
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets

INSIDE = "10.1.2.3"
ASKED = [((), None), (("read",), INSIDE), (("trade",), "192.0.2.1")]


class Node:
    """One node, with a state folder of its own.

    Args:
        home: whose store it follows.
        name: of its folder.
    """

    def __init__(self, home: Home, name: str) -> None:
        self.store = Store(home.store)
        self.secrets = Secrets(home.secrets)
        self.folder = home.folder / "nodes" / name
        self.publication: Publication | None = None
        self.restart()

    @property
    def revision(self) -> int:
        """What it serves; 0 for nothing."""
        return self.publication.manifest.revision if self.publication else 0

    def restart(self) -> None:
        """Forget all but what lies on disk."""
        self.highest = HighestServed(self.folder)
        self.publication = None

    def take(self, revision: int) -> None:
        """Load a publication and serve it, as a follower does."""
        new = load_publication(
            self.store, revision, self.secrets, highest=self.highest, reuse=self.publication
        )
        self.highest.record(new.mark)
        self.publication = new
        self.highest.bury(new.buried, self.store)

    def refusal(self, revision: int) -> str:
        """Return the code that it refuses a publication with, "" if it would serve it; it does not."""
        try:
            load_publication(self.store, revision, self.secrets, highest=self.highest, reuse=self.publication)
        except UnsoundPublication as refused:
            return refused.code
        return ""

    def compare(self, expected: Published, tokens: list[str], pruned: set[str], now: int) -> int:
        """Check all answers at all moments that matter; return how many that were."""
        assert self.publication is not None and expected.revision == self.revision
        verify, count = self.publication.view.verify_at, 0
        for token in tokens:
            said = expected.said.get(token)
            if token in pruned and (said is None or expected.hold is not None):
                # It may still be in an old base, and in what is held. It is over; unless an old backup brought it back.
                denied = said is None or said.why or said.key_off or said.client in expected.off
                assert not denied or not any(verify(token, at).valid for at in (now, now + 1_000_000)), (
                    f"I14: a pruned version is VALID: {token}"
                )
                continue
            _compare_facts(expected, token, verify(token, now))
            for at in {now} if said is None else said.moments() | {now}:
                for scopes, address in ASKED if at == now else ASKED[:1 + bool(said and said.rules)]:
                    answer = verify(token, at, scopes, address)
                    wanted = expected.answer(token, at, scopes, address)
                    found = answer.verdict.name, answer.phase.name
                    count += 1
                    if found != wanted:
                        kind = "I1: VALID though compromised" if token in expected.buried and answer.valid else (
                            "I3: false VALID" if answer.valid else "I4: false refusal" if wanted.verdict == "VALID"
                            else "I15: another answer"
                        )  # fmt: skip
                        raise AssertionError(
                            f"{kind}: r{self.revision} at {at} (now {now}) {scopes} {address}: {found}, not {wanted} "
                            f"for {said}"
                        )
        return count


def _compare_facts(expected: Published, token: str, answer: Answer) -> None:
    said = expected.said.get(token)
    if said is None:
        assert answer.verdict.name == "UNKNOWN", f"I14: {token} is {answer.verdict.name}, not UNKNOWN"
        return
    found = (
        (answer.key_id, answer.version), answer.client_id, _second(answer.not_before, 0),
        _second(answer.expires_at, NEVER), _second(answer.superseded_at, NEVER), answer.superseded_by or 0,
    )  # fmt: skip
    wanted = (said.where, said.client, said.begins, said.end, said.gone_at, said.gone_to)
    assert found == wanted, f"I13: r{expected.revision} says {found}, not {wanted}, of {said}"
    if said.why:
        reason = answer.revocation_reason
        why = "unspecified" if reason is None else reason.name.lower()
        assert why == said.why, f"K6: revoked for {why}, not {said.why}: {said}"
    if answer.valid:
        assert answer.scopes == said.scopes and tuple(answer.metadata.items()) == said.metadata, "I13: other terms"


def _second(moment, none: int) -> int:
    return none if moment is None else int(moment.timestamp())
