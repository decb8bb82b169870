"""A second opinion on the life of a key: objects that change, an explicit line of labels, and no shared code.

Written from the table of events only, so that a mistake in the product's rules shows as a difference. Times are
seconds; NEVER stands for no end. A refusal is :class:`No` with the code that the product must raise; it may come in the
middle of a change, so whoever asks keeps a copy.
"""

from dataclasses import dataclass, field

NEVER = 10**12
MAX_LIVE = 3


class No(Exception):
    """The model refuses."""


@dataclass(eq=False)
class Secret:
    """One version."""

    number: int
    made: int
    begins: int = 0
    own: int = NEVER
    window: int = NEVER
    clock: str = ""
    overlap: int = 0
    ceiling: int | None = None
    gone_over_to: "Secret | None" = None
    gone_at: int | None = None
    used: int | None = None
    why: str = ""  # it was revoked
    when: int | None = None


@dataclass
class Life:
    """One key."""

    ends: int = NEVER
    secrets: list[Secret] = field(default_factory=list)
    now: int = 0

    # --- Looking ---

    @property
    def label(self) -> Secret:
        (one,) = [secret for secret in self.secrets if secret.gone_over_to is None]
        return one

    @property
    def newest(self) -> Secret:
        return max(self.secrets, key=lambda secret: secret.number)

    def end(self, secret: Secret) -> int:
        return min(secret.own, secret.window, self.ends)

    def works(self, secret: Secret, at: int) -> bool:
        return not secret.why and secret.begins <= at < self.end(secret)

    def lives(self, secret: Secret) -> bool:
        return not secret.why and self.now < self.end(secret)

    def waits(self, secret: Secret) -> bool:
        return not secret.why and self.now < secret.begins

    def leaving(self) -> list[Secret]:
        """Those that callers may still leave for the label, the last one first."""
        some = [secret for secret in self.secrets if secret.gone_over_to is self.label and self.lives(secret)]
        return sorted(some, key=lambda secret: (secret.gone_at, secret.number), reverse=True)

    def ahead_of_label(self) -> list[Secret]:
        return [secret for secret in self.leaving() if secret.number < self.label.number]

    # --- Rotating ---

    def rotate(
        self, clock: str, overlap: int, pending: int, at: int | None, life: int | None, *, leak: bool, force: bool,
        gap: bool,
    ) -> None:  # fmt: skip
        if at is not None and at <= self.now:
            raise No("IN_THE_PAST")
        if not self.label.why and (self.waits(self.label) or self.leaving()) and not force:
            raise No("ROTATION_OPEN")
        lived = sum(map(self.lives, self.secrets))
        self._rotate(clock, overlap, pending, at, life, leak=leak, gap=gap)
        if not leak and lived < (lives := sum(map(self.lives, self.secrets))) and lives > MAX_LIVE:
            raise No("MAX_LIVE")

    def _rotate(
        self, clock: str, overlap: int, pending: int, at: int | None, life: int | None, *, leak: bool, gap: bool
    ) -> None:
        begins = self.now if at is None else at
        if leak:
            for secret in self.secrets:
                if secret.gone_over_to is self.label and secret.gone_at > self.now:
                    secret.gone_at = self.now
        elif self.waits(self.label) or self.label.used is None:
            if back := self.ahead_of_label():
                self._give_back(back[0])
            elif self.waits(self.label):
                self.kill(self.label, "superseded")
        old = self.label
        if self.ends <= begins:
            raise No("KEY_OVER")
        if not old.why and not leak and not gap and old.own <= begins:
            raise No("GAP")
        own = old.own if life is None else begins + life if life else NEVER
        if own <= begins:
            raise No("EMPTY_WINDOW")
        new = Secret(self.newest.number + 1, self.now, at or 0, own)
        if leak:
            self.kill(old, "key_compromise")
        old.gone_over_to, old.gone_at = new, begins
        if not old.why:
            old.clock, old.overlap, old.ceiling = clock, overlap, None
            if clock == "fixed":
                old.window = begins + overlap
            elif clock == "on_first_use":
                old.window = old.ceiling = begins + pending + overlap
        self.secrets.append(new)

    def promote(self) -> None:
        label = self.label
        if label.why:
            raise No("REVOKED")
        olds = [secret for secret in self.secrets if secret.gone_over_to is label and not secret.why]
        if self.waits(label):
            label.begins = 0
            for old in olds:
                old.gone_at = self.now
                if old.clock != "manual":
                    old.window = min(old.window, self.now + old.overlap)
                if old.ceiling is not None:
                    old.ceiling = self.now + old.overlap
            return
        olds = [old for old in olds if old.ceiling is not None and self.lives(old)]
        if label.used is not None or not olds or not self.lives(label):
            raise No("NOTHING_TO_PROMOTE")
        for old in olds:
            old.window = min(old.window, self.now + old.overlap)

    def use(self, secret: Secret, at: int) -> None:
        """A node reports a use."""
        at = max(secret.made, secret.begins, min(at, self.now))
        secret.used = at if secret.used is None else min(secret.used, at)
        for old in self.secrets:
            if old.gone_over_to is secret and old.ceiling is not None and not old.why:
                noticed = self.now + min(3600, old.overlap)
                old.window = min(old.window, max(at + old.overlap, noticed))

    def retire(self, secret: Secret, at: int | None) -> None:
        at = max(at or 0, self.now)
        if secret.why:
            raise No("REVOKED")
        if secret.gone_at is None or at < secret.gone_at:
            raise No("NOT_SUPERSEDED")
        if at < self.end(secret):
            secret.window = at

    # --- Going back ---

    def cancel(self) -> None:
        if self.newest.why and self.newest.gone_over_to is self.label:
            return  # once more
        if not self.waits(self.label) and self.label.used is not None:
            raise No("IN_USE")
        if not self.ahead_of_label():
            raise No("NO_PREDECESSOR")
        self._give_back(self.ahead_of_label()[0])

    def roll_back(self, to: Secret | None, overlap: int) -> None:
        if self.waits(self.label):
            self.cancel()
            if to in (None, self.label):
                return
        label = self.label
        if to is None:
            olds = [secret for secret in self.secrets if secret.gone_over_to is label]
            olds = [secret for secret in olds if not secret.why and self.now < min(secret.own, self.ends)]
            if not olds:
                raise No("NO_PREDECESSOR")
            to = max(olds, key=lambda secret: (secret.gone_at, secret.number))
        elif to is label:
            raise No("NO_PREDECESSOR")
        elif to.why:
            raise No("COMPROMISED" if to.why == "key_compromise" else "REVOKED")
        elif self.now >= min(to.own, self.ends):
            raise No("NO_PREDECESSOR")
        lived = self.lives(label)
        self._swap(label, to)
        if lived:
            label.window = self.now + overlap

    def _give_back(self, old: Secret) -> None:
        label = self.label
        self.kill(label, "superseded")
        self._swap(label, old)

    def _swap(self, label: Secret, old: Secret) -> None:
        label.gone_over_to, label.gone_at = old, self.now
        label.clock, label.ceiling = "", None
        old.gone_over_to = old.gone_at = old.ceiling = None
        old.window, old.clock = NEVER, ""

    # --- Denying ---

    def kill(self, secret: Secret, why: str) -> None:
        if not secret.why or (why == "key_compromise" != secret.why):
            secret.why = why
            secret.when = self.now if secret.when is None else secret.when

    def reinstate(self, secret: Secret, when: int) -> None:
        if not secret.why or secret.why == "key_compromise" or secret.when != when:
            return
        if secret.gone_at is not None and (secret.gone_at < secret.begins or self.now < secret.begins):
            return
        secret.why, secret.when = "", None
