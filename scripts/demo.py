"""`make run`: a store with one client and one key, served by a real node and verified over gRPC, until Ctrl-C.

Everything below goes through the command line and the client package, as an operator and a caller would.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from verifier import Keyring, tokens
from verifier.client import Retries, VerifierClient
from verifier.errors import VerifierError
from verifier.server import values
from verifier.vocabulary import Verdict

ROOT = Path(__file__).resolve().parents[1]
HOME = Path("run/demo")
KEPT_NAME = "demo-token.txt"
VERIFIER = [sys.executable, "-m", "verifier"]
CLIENT = "acme"
START_TIMEOUT_S = 30


def command(home: Path, *arguments: str) -> dict[str, Any]:
    """Run one command on the demo store, show it, and return its JSON."""
    print(f"$ verifier --store {home} {' '.join(arguments)}", flush=True)
    done = run(home, *arguments)
    if done.returncode != 0:
        sys.exit(f"{done.stdout.strip()}\nmake run: that command failed with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command on the demo store, with JSON for an answer."""
    words = [*VERIFIER, "--store", str(home), *arguments, "--json"]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)


def issue_key(home: Path) -> None:
    """Issue a key and keep its token: it opens nothing but the demo, and the next run needs it."""
    key = command(home, "key", "create", "--client", CLIENT, "--scopes", "read,trade")
    (home / KEPT_NAME).touch(mode=0o600)
    (home / KEPT_NAME).write_text(key["token"] + "\n")


def prepare_store(home: Path) -> str:
    """Make what is missing of store, client, key and publication; return the key's token.

    A key that a visitor has revoked or let expire since the last run is replaced by a new one.
    """
    command(home, "init")
    if run(home, "client", "show", CLIENT).returncode != 0:
        command(home, "client", "create", CLIENT)
    if not (home / KEPT_NAME).exists():
        issue_key(home)
    command(home, "publish")
    token = (home / KEPT_NAME).read_text().strip()
    with Keyring.open(home) as keyring:
        verdict = keyring.verify(token).verdict
    if verdict is not Verdict.VALID:
        print(f"  the key of the last run is {verdict.name} by now")
        issue_key(home)
        command(home, "publish")
    return (home / KEPT_NAME).read_text().strip()


def require_free(address: str, variable: str) -> None:
    """Stop with a clear message when an address is none, or another program listens on it already."""
    try:
        values.address(address)
    except ValueError as error:
        sys.exit(f"make run: {variable}={address} is not accepted: {error}")
    if address.startswith("unix:"):
        return
    host, port = values.split_address(address)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            shown = f"[{host}]" if ":" in host else host
            sys.exit(f"make run: cannot listen on {address}: {error.strerror}\n"
                     f"    Choose another address: make run {variable}={shown}:{port + 1}")


def damaged(token: str) -> str:
    """Change one character, as a typo would: the checksum no longer fits."""
    return token[:-8] + ("a" if token[-8] != "a" else "b") + token[-7:]


def verify(target: str, token: str) -> bool:
    """Verify three keys over gRPC and print the answers; tell whether all are as they must be."""
    good = True
    with VerifierClient(target, timeout_s=5) as client:
        client.health()  # connects, so that the times below are those of calls
        for text, key, expected in (
            ("the key that was issued", token, Verdict.VALID),
            ("the same with one character changed", damaged(token), Verdict.MALFORMED),
            ("a well-formed key that nobody issued", tokens.generate(), Verdict.UNKNOWN),
        ):
            began = time.perf_counter()
            answer = client.verify(key, required_scopes=["read"])
            took_us = (time.perf_counter() - began) * 1e6
            print(f"  {text:37} -> {answer.verdict.name:9}  revision {answer.revision}, {took_us:.0f} us as seen here")
            good = good and answer.verdict is expected
    return good


def wait_until_serving(node: subprocess.Popen[bytes], target: str) -> None:
    """Wait for the node's health check, or stop when the node did."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if node.poll() is not None:
            sys.exit(f"make run: the node stopped with exit code {node.returncode}; its last words are above")
        # A new client each time: grpcio waits longer and longer before it connects again.
        with VerifierClient(target, timeout_s=1, retries=Retries(attempts=1)) as client, suppress(VerifierError):
            if client.health():
                return
        time.sleep(0.05)
    sys.exit(f"make run: the node did not serve within {START_TIMEOUT_S} s")


def print_next(home: Path, target: str, metrics: str) -> None:
    """Say what to try while the node serves."""
    print(f"""
Serving on {target}. Try in another terminal, in this folder:
  export PATH="$PWD/.venv/bin:$PATH" VERIFIER_STORE={home}
  verifier check --target {target} --scopes read < {home / KEPT_NAME}
  verifier key list
  verifier key revoke KEY_ID --version 1 --reason key_compromise && verifier publish
  verifier check --target {target} < {home / KEPT_NAME}      # REVOKED
  verifier status --target {metrics}
Ctrl-C stops the node.""", flush=True)


def take_terminal() -> None:
    """Let Ctrl-C reach this process alone, so that make sees a clean exit instead of being interrupted itself."""
    if sys.stdin.isatty():
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:50051", help="address of the node")
    parser.add_argument("--metrics", default="127.0.0.1:9464", help="address of its metrics and status")
    parser.add_argument("--store", type=Path, default=HOME, help="folder of the demo's store")
    options = parser.parse_args()
    require_free(options.listen, "LISTEN")
    require_free(options.metrics, "METRICS")
    os.chdir(ROOT)
    token = prepare_store(options.store)
    serve = ["--store", str(options.store), "serve", "--listen", options.listen, "--metrics", options.metrics]
    print(f"$ verifier {' '.join(serve)}", flush=True)
    take_terminal()
    # In a session of its own the node gets no second signal from the terminal, which would force it to stop.
    node = subprocess.Popen([*VERIFIER, *serve], start_new_session=True)

    def stop(_signal: int, _frame: object) -> None:
        node.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        wait_until_serving(node, options.listen)
        if not verify(options.listen, token):
            sys.exit("make run: an answer is not what it must be")
        print_next(options.store, options.listen, options.metrics)
        # Not node.wait(): a signal that comes just before it blocks would be acted on only when it returns.
        while node.poll() is None:
            time.sleep(0.1)
        sys.exit(node.returncode)
    finally:
        if node.poll() is None:
            node.terminate()
            node.wait()


if __name__ == "__main__":
    main()
