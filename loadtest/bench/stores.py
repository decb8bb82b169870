"""Stores to measure with, made by the real command line and kept under ``build/loadtest/``."""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loadtest.bench.tools import BUILD, ROOT
from verifier.registry.schema import SCHEMA

STORES = BUILD / f"stores-{SCHEMA}"  # those of an older format could not be opened
CLIENT = "acme"
SCOPES = "read,trade"
REDIS_VALUE_BYTES = 60


class CommandFailed(RuntimeError):
    """A ``verifier`` command did not do what the benchmark needs."""


@dataclass(frozen=True)
class Used:
    """What one command cost: wall-clock seconds, CPU seconds, and the peak of its memory in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str


def run_cli(home: Path, *arguments: str) -> Used:
    """Run ``verifier --store HOME ...`` and account for it.

    Raises:
        CommandFailed: it exited with another code than 0.
    """
    command = [sys.executable, "-m", "verifier", "--store", str(home), *arguments]
    start = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CommandFailed(f"verifier {' '.join(arguments)}: exit code {process.returncode} {output.strip()}")
    return Used(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


@dataclass(frozen=True)
class BenchStore:
    """A published store with the tokens of all its keys.

    Attributes:
        folder: holds ``home``, ``tokens``, ``tokens.ids``, request files and ``made.json``.
        keys: how many keys.
    """

    folder: Path
    keys: int

    @property
    def home(self) -> Path:
        """The folder for ``--store``."""
        return self.folder / "home"

    @property
    def tokens_file(self) -> Path:
        """One token a line."""
        return self.folder / "tokens"

    @property
    def ids_file(self) -> Path:
        """One key id a line, in the order of the tokens."""
        return self.folder / "tokens.ids"

    @cached_property
    def made(self) -> dict[str, Any]:
        """What making it cost."""
        body: dict[str, Any] = json.loads((self.folder / "made.json").read_text())
        return body

    def keyring_bytes(self) -> int:
        """Size of its keyring file (of the largest, if it was published more than once)."""
        return max(path.stat().st_size for path in (self.home / "store/keyrings").glob("*.mdb"))

    def sample(self, count: int) -> list[bytes]:
        """Return random tokens, the same at each run, that lie in memory in the order of the list."""
        tokens = self.tokens_file.read_bytes().split()
        return b"\n".join(random.Random(7).sample(tokens, min(count, len(tokens)))).split()

    def grpc_requests(self) -> Path:
        """Return the file of one VerifyRequest per key, for the generator."""
        return self._requests("requests.grpc", lambda token: b"\x0a" + bytes([len(token)]) + token)

    def redis_requests(self) -> Path:
        """Return the file of one RESP ``GET`` per key."""
        return self._requests("requests.redis", lambda token: b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(token), token))

    def _requests(self, name: str, encode: Any) -> Path:
        path = self.folder / name
        if not path.exists():
            partial = path.with_suffix(".partial")
            with self.tokens_file.open("rb") as tokens, partial.open("wb", buffering=1 << 20) as out:
                for line in tokens:
                    message = encode(line.rstrip())
                    out.write(struct.pack(">I", len(message)) + message)
            partial.rename(path)
        return path

    def copy_home(self, name: str) -> Path:
        """Copy the store for a measurement that changes it; returns the new ``--store`` folder."""
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", self.home, copy], check=True)
        return copy


def bench_store(keys: int, *, fresh: bool = False) -> BenchStore:
    """Return a store with so many keys, made with ``verifier`` commands if it is not there yet.

    Args:
        keys: how many keys.
        fresh: make it again even if it is there.
    """
    folder = STORES / str(keys)
    if fresh or not (folder / "made.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(BenchStore(folder, keys))
    return BenchStore(folder, keys)


def _make(store: BenchStore) -> None:
    run_cli(store.home, "init")
    run_cli(store.home, "client", "create", CLIENT)
    create = run_cli(store.home, "key", "create", "--client", CLIENT, "--scopes", SCOPES, "--count", str(store.keys),
                     "--output", str(store.tokens_file), "--json")
    publish = run_cli(store.home, "publish", "--json")
    made = {
        "keys": store.keys,
        "create": _costs(create),
        "publish": _costs(publish),
        "registry_bytes": (store.home / "registry.db").stat().st_size,
        "keyring_bytes": store.keyring_bytes(),
    }
    (store.folder / "made.json").write_text(json.dumps(made, indent=1) + "\n")


def _costs(used: Used) -> dict[str, float]:
    return {"wall_s": round(used.wall_s, 3), "cpu_s": round(used.cpu_s, 3), "peak_bytes": used.peak_bytes}
