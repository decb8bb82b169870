"""One store, node and upstream for all gateways, and each gateway once for the tests that leave it alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateways.support.gateways import GATEWAY, GATEWAYS, Change, Gateway
from tests.gateways.support.keys import Keys
from tests.gateways.support.programs import Program
from tests.gateways.support.stage import Stage, free_port


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    """A store with a client."""
    made = Keys(tmp_path_factory.mktemp("store"))
    made.publish()
    yield made
    made.close()


@pytest.fixture(scope="session")
def stage(keys: Keys) -> Iterator[Stage]:
    """A node that serves it, and an upstream."""
    started = Stage(keys)
    yield started
    started.close()


@pytest.fixture(params=list(GATEWAYS), scope="session")
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Each gateway in turn; one that is not installed is skipped, and `make gateways` says so."""
    chosen = GATEWAYS[request.param]
    if chosen.program is None:
        pytest.skip(f"{chosen.name} is NOT INSTALLED: scripts/gateways.sh install {chosen.name}")
    return chosen


@dataclass(frozen=True)
class Running:
    """A gateway that runs."""

    gateway: Gateway
    program: Program
    stage: Stage

    @property
    def port(self) -> int:
        """Where callers call it."""
        return self.program.port


@pytest.fixture(scope="session")
def running(gateway: Gateway, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway before the shared node."""
    with start(gateway, stage, tmp_path_factory.mktemp(gateway.name)) as program:
        yield Running(gateway, program, stage)


def start(gateway: Gateway, stage: Stage, folder: Path, *changes: Change) -> Program:
    """Start a gateway before a stage."""
    return gateway.run(folder, {**stage.ports, GATEWAY: free_port()}, *changes)
