"""docs/playbooks.md, run word by word: each playbook on a rehearsal of its own, with a control plane and a node."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import quick_command, shell

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "playbooks.md").read_text()
INTRODUCTION, *_SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {section.split("\n", 1)[0]: section for section in _SECTIONS}
REHEARSAL = SECTIONS.pop("Rehearsal")
PORTS = ("50051", "50052", "50061", "9464")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="playbooks are written for bash")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bin")
    with quick_command.serving(folder):
        yield folder


class Rehearsal:
    """A reader who follows the page in a folder of his own, on free ports."""

    def __init__(self, bash: shell.Shell, ports: dict[str, str]) -> None:
        self._bash = bash
        self._ports = ports

    def follow(self, section: str) -> None:
        """Run all commands of a section; each does what the page says, and fails only where the page says so."""
        for command, promised in shell.steps(section):
            if command.startswith("export PATH="):
                continue  # the shell has it already
            printed = self._bash.run(shell.replaced(command, self._ports))
            printed = shell.replaced(printed, {used: written for written, used in self._ports.items()})
            printed = printed.replace(str(self._bash.folder), "/tmp/practice")
            assert shell.shows(_numbered(promised), _numbered(printed)), f"after: {command}\n{printed}"
            fails = re.search("^verifier: ", promised, re.MULTILINE) is not None
            assert fails == (self._bash.code != 0), f"exit code {self._bash.code} of: {command}\n{printed}"


def _numbered(text: str) -> str:
    """Replace numbers that depend on how fast the first use of a token was reported, and published."""
    return re.sub(r"\ba-\d+", "a-N", re.sub(r"\brevision \d+", "revision N", text))


@pytest.fixture
def rehearsal(commands: Path, quick_path: Path, free_port: Callable[[], int]) -> Iterator[Rehearsal]:
    bash = shell.Shell(quick_path, shell.reader_environment(commands))
    try:
        yield Rehearsal(bash, {port: str(free_port()) for port in PORTS})
        # The node first: it delivers its last counts to the control plane. A slow end is no fault of the page.
        with suppress(AssertionError):
            bash.run("kill $NODE; wait $NODE; kill $CONTROL; wait $CONTROL; kill $(jobs -p); wait")
    finally:
        bash.close()


@pytest.mark.parametrize("name", SECTIONS)
def test_a_playbook_does_what_it_says(name: str, rehearsal: Rehearsal) -> None:
    rehearsal.follow(REHEARSAL)
    rehearsal.follow(SECTIONS[name])


@pytest.mark.parametrize("name", SECTIONS)
def test_a_playbook_says_what_operators_need(name: str) -> None:
    section = SECTIONS[name]
    for part in ("**When:**", "**Callers notice", "**It worked", "ndo"):
        assert part in section, part
    proof = section.split("**It worked", 1)[1]
    assert re.search(r"^\$ (.*; )?(ask|verifier check) ", proof, re.MULTILINE), "callers are not asked in the end"
    anchor = name.lower().replace(" ", "-")
    assert f"[{name}](#{anchor})" in INTRODUCTION
