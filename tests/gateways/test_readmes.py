"""Each gateway's README, followed word by word from an empty folder."""

import sys

import pytest

from tests.gateways.support.gateways import APPLICATION, FILES, GATEWAY, ROOT, VERIFIER_GRPC, VERIFIER_HTTP, Gateway
from tests.gateways.support.stage import free_port
from tests.support import shell as pages
from tests.support.shell import Shell, replaced, shows

pytestmark = pytest.mark.gateways


def test_the_readme_can_be_followed(gateway: Gateway, tmp_path):
    commands, folder = tmp_path / "bin", tmp_path / "reader"
    commands.mkdir()
    folder.mkdir()
    (commands / "verifier").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m verifier "$@"\n')
    (commands / "verifier").chmod(0o755)
    ports = {port: str(free_port()) for port in (GATEWAY, APPLICATION, VERIFIER_GRPC, VERIFIER_HTTP, "9464")}
    steps = pages.steps((FILES / gateway.name / "README.md").read_text())
    assert ["401", "401", "403"] == [shown.strip() for _, shown in steps if shown.strip().isdigit()][-3:]
    shell = Shell(folder, {**pages.reader_environment(commands), "PYTHONPATH": str(ROOT)})
    try:
        for command, promised in steps:
            try:
                printed = shell.run(replaced(command.replace("/path/to/verifier", str(ROOT)), ports))
            except AssertionError as late:
                raise AssertionError(f"{late}\n{_logs(folder)}") from None
            assert shows(promised, printed), f"{command}\n{printed}\n{_logs(folder)}"
            if command.startswith("cp "):  # the files name the ports, too
                for file in filter(lambda file: file.is_file(), folder.rglob("*")):
                    file.write_text(elsewhere(file.read_text(), ports[GATEWAY], ports))
    finally:
        shell.close()


def elsewhere(text: str, mark: str, ports: dict[str, str]) -> str:
    """Put other ports into a file, and another name for the one socket whose name holds for the whole machine."""
    return replaced(text, ports).replace("abns@verifier", f"abns@verifier-{mark}")


def _logs(folder) -> str:
    return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in folder.glob("*.log"))
