"""The gateways: their files under deploy/gateways, how they are run, and what differs between them."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.gateways.support.programs import Program

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "deploy" / "gateways"
PROGRAMS = ROOT / ".venv-gateways" / "bin"

# Ports as the files and pages have them.
GATEWAY, APPLICATION, VERIFIER_GRPC, VERIFIER_HTTP = "8080", "9000", "50051", "50052"

Change = tuple[str, str]


@dataclass(frozen=True)
class Gateway:
    """One gateway.

    Attributes:
        name: of its folder and program.
        files: that it reads, the first of them named to it.
        command: its arguments, from the path of that file.
        open: what an operator changes to let callers in when no node answers; None if it cannot do so.
    """

    name: str
    files: tuple[str, ...]
    command: Callable[[str], list[str]]
    open: Change | None

    @property
    def program(self) -> Path | None:
        """The program, where it is installed."""
        program = PROGRAMS / self.name
        return program if program.exists() else None

    def run(self, folder: Path, ports: Mapping[str, int], *changes: Change) -> Program:
        """Start it in an empty folder, with its files as they are but for ports and these changes."""
        assert self.program is not None
        for change in changes:
            assert any(change[0] in (FILES / self.name / file).read_text() for file in self.files), change
        for file in self.files:
            text = (FILES / self.name / file).read_text()
            # HAProxy's socket has a name for the whole machine.
            for old, new in (*changes, ("abns@verifier", f"abns@verifier-{ports[GATEWAY]}")):
                text = text.replace(old, new)
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(at_ports(text, ports))
        return Program([self.program, *self.command(self.files[0])], folder, ports[GATEWAY])


def at_ports(text: str, ports: Mapping[str, int]) -> str:
    """Put other port numbers into a file or page."""
    return re.sub(r"\b(" + "|".join(ports) + r")\b", lambda match: str(ports[match[1]]), text)


ENVOY = Gateway(
    "envoy", ("envoy.yaml",),
    lambda file: ["-c", file, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning",
                  "--file-flush-interval-msec", "100"],
    open=("failure_mode_allow: false", "failure_mode_allow: true"),
)  # fmt: skip
NGINX = Gateway(
    "nginx", ("nginx.conf",),
    # Run by root, its workers would be nobody, who cannot keep large bodies in a folder of the tests.
    lambda file: ["-p", ".", "-e", "stderr", "-c", file, *(() if os.geteuid() else ("-g", "user root;"))],
    open=("error_page 500 =503 @unavailable;", "error_page 500 = @open;"),
)  # fmt: skip
HAPROXY = Gateway(
    "haproxy", ("haproxy.cfg", "verifier.lua"), lambda file: ["-f", file, "-db"],
    open=("http-request return status 503", "# http-request return status 503"),
)  # fmt: skip
CADDY = Gateway(
    "caddy", ("Caddyfile",), lambda file: ["run", "--config", file],
    open=("import unavailable\n", "import open\n"),
)  # fmt: skip
PLUGIN = "plugins-local/src/verifier.local/handover"
TRAEFIK = Gateway(
    "traefik", ("traefik.yml", "routes.yml", f"{PLUGIN}/.traefik.yml", f"{PLUGIN}/go.mod", f"{PLUGIN}/handover.go"),
    lambda file: [f"--configFile={file}"], open=None,
)  # fmt: skip
GATEWAYS = {gateway.name: gateway for gateway in (ENVOY, NGINX, HAPROXY, CADDY, TRAEFIK)}


def installed(gateway: Gateway) -> bool:
    """Tell whether its program is here."""
    return gateway.program is not None
