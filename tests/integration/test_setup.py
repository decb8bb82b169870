"""What `make build` says and does on machines that lack something, seen through stand-ins for the system's tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
# A compiler for which the headers exist only once the packages are "installed".
CC = '#!/bin/sh\n[ -e "$MARK" ]\n'
ORDINARY_USER = '#!/bin/sh\n[ "$1" = -u ] && echo 1000\n'
ROOT_USER = "#!/bin/sh\necho 0\n"
APT = '#!/bin/sh\necho "$DEBIAN_FRONTEND: $*" >> "$LOG"\n[ "$1" != install ] || : > "$MARK"\n'
# Without -n sudo would ask for a password: that must never happen.
SUDO_ASKS = '#!/bin/sh\n[ "$1" = -n ] && exit 1\nsleep 600\n'
SUDO_WORKS = '#!/bin/sh\n[ "$1" = -n ] || sleep 600\nshift\nexec "$@"\n'

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the script is written for bash")


def setup_system(tmp_path: Path, **tools: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the first step with the given programs in front of the PATH; return the result and what apt-get was told."""
    tools = {"cc": CC, "apt_get": APT, "id": ORDINARY_USER, **tools}
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in tools.items():
        program = folder / name.replace("_", "-")
        program.write_text(script)
        program.chmod(0o755)
    log = tmp_path / "apt.log"
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": sys.executable,
        "LOG": str(log), "MARK": str(tmp_path / "installed"),
    }
    done = subprocess.run(
        [ROOT / "scripts" / "setup.sh", "system"], env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
    )
    return done, log.read_text() if log.exists() else ""


@pytest.mark.parametrize("sudo", [SUDO_ASKS, "#!/bin/sh\nexit 1\n"], ids=["sudo asks", "no right to sudo"])
def test_without_root_the_command_to_run_is_named(tmp_path: Path, sudo: str):
    done, told = setup_system(tmp_path, sudo=sudo)
    assert 3 == done.returncode
    assert "sudo apt-get update && sudo apt-get install -y libnghttp2-dev libssl-dev" in done.stderr
    assert "" == told


@pytest.mark.parametrize("tools", [{"id": ROOT_USER}, {"sudo": SUDO_WORKS}], ids=["root", "sudo -n"])
def test_with_root_rights_packages_are_installed_without_questions(tmp_path: Path, tools: dict[str, str]):
    done, told = setup_system(tmp_path, **tools)
    assert 0 == done.returncode, done.stderr
    assert [
        "noninteractive: update -q",
        "noninteractive: install -y -q --no-install-recommends libnghttp2-dev libssl-dev",
    ] == told.splitlines()


def test_packages_that_do_not_help_are_reported(tmp_path: Path):
    done, _ = setup_system(tmp_path, id=ROOT_USER, apt_get="#!/bin/sh\n")
    assert 3 == done.returncode
    assert "still missing" in done.stderr


def test_nothing_is_asked_of_a_machine_that_has_everything(tmp_path: Path):
    done, told = setup_system(tmp_path, cc="#!/bin/sh\n", id=ROOT_USER)
    assert (0, "", "") == (done.returncode, done.stderr, told)


def test_an_old_python_is_named(tmp_path: Path):
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "setup.sh", "system"], env={**os.environ, "PYTHON": str(old)},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )
    assert 3 == done.returncode
    assert "is Python 3.9.2; Python 3.11 or newer is needed" in done.stderr
