"""The command line for pages of many commands: one process imports it and forks for each, in a tenth of the time.

``python -m tests.support.quick_command FOLDER`` writes ``FOLDER/verifier`` and serves it until it is killed. That
command behaves as the real one: arguments, folder, environment, standard streams, exit code; signals are passed on.
"""

import array
import importlib
import os
import pkgutil
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
READY = "ready"

# Says what is wanted, hands over its three streams and waits for the exit code. Imports little: it starts often.
CLIENT = """#!{python} -IS
import array, os, signal, socket, struct, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
said = [os.getcwd(), str(len(sys.argv) - 1), *sys.argv[1:], *(k + "=" + v for k, v in os.environ.items())]
body = b"\\0".join(map(os.fsencode, said))
streams = array.array("i", [0, 1, 2])
link.sendmsg([struct.pack("!I", len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
link.sendall(body)
child = struct.unpack("!i", link.recv(4, socket.MSG_WAITALL))[0]
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(child, number))
code = link.recv(4, socket.MSG_WAITALL)
os._exit(struct.unpack("!i", code)[0] if code else 255)
"""


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    """Offer ``folder/verifier`` as long as the context lasts; what it still runs then is killed."""
    server = Popen(
        [sys.executable, "-m", __name__, str(folder)], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        assert READY == server.stdout.readline().strip()
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        with server:
            pass


def serve(folder: Path) -> None:
    """Serve commands for ever."""
    _import_everything()
    address = folder / "quick.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    command = folder / "verifier"
    command.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    command.chmod(0o755)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    while True:
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _carry_out(link)
        link.close()


def _import_everything() -> None:
    """Import what the commands import one by one when they need it."""
    import verifier

    for module in pkgutil.walk_packages(verifier.__path__, "verifier."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)


def _carry_out(link: socket.socket) -> None:
    """Be the command that is asked for."""
    code = 255
    try:
        arguments = _become(link)
        link.sendall(struct.pack("!i", os.getpid()))
        code = _run(arguments)
    finally:
        link.sendall(struct.pack("!i", code))
        os._exit(code)


def _become(link: socket.socket) -> list[str]:
    """Take over streams, folder and environment of a client; return its arguments."""
    head, rights, _, _ = link.recvmsg(4, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i", rights[0][2])
    body = b""
    while len(body) < struct.unpack("!I", head)[0]:
        body += link.recv(1 << 16)
    folder, count, *said = map(os.fsdecode, body.split(b"\0"))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({name: value for name, _, value in (pair.partition("=") for pair in said[int(count):])})
    return said[: int(count)]


def _run(arguments: list[str]) -> int:
    from verifier.cli import main

    code: Any = 0
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
