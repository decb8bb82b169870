"""Builds what is measured with: the load generator, the echo server and the C++ peer, under ``build/loadtest/``."""

import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADTEST = ROOT / "loadtest"
BUILD = ROOT / "build" / "loadtest"
HTTP_PEERS = ["granian", "httptools", "starlette", "uvicorn", "uvloop"]
C_FLAGS = ["-std=gnu11", "-O2", "-g1", "-Wall", "-Wextra"]


class Missing(Exception):
    """Something that this machine lacks; the text says what to install."""


def generator() -> Path:
    """Return the load generator, compiled if its sources changed."""
    folder = LOADTEST / "generator"
    sources = [folder / name for name in ("generator.c", "http2.c", "ordered.c", "report.c")]
    return compiled(BUILD / "generator", ["cc", *C_FLAGS], sources, ["-lnghttp2", "-lm"], [folder / "generator.h"])


def echo() -> Path:
    """Return the echo server, the floor for latency."""
    return compiled(BUILD / "echo", ["cc", *C_FLAGS], [LOADTEST / "generator" / "echo.c"], [])


def memory() -> Path:
    """Return the program that times this machine's memory, the floor for lookups."""
    return compiled(BUILD / "memory", ["cc", *C_FLAGS], [LOADTEST / "generator" / "memory.c"], [])


def cpp_grpc() -> Path:
    """Return the C++ gRPC peer.

    Raises:
        Missing: the compiler, protoc or the libraries are not there.
    """
    plugin = shutil.which("grpc_cpp_plugin")
    if not (plugin and shutil.which("protoc") and shutil.which("g++")):
        raise Missing("apt-get install g++ libgrpc++-dev protobuf-compiler-grpc")
    folder = BUILD / "cpp_grpc"
    proto = _plain_proto(folder)
    generated = [folder / "verifier/v1" / name for name in ("verifier.pb.cc", "verifier.grpc.pb.cc")]
    if not all(path.exists() and path.stat().st_mtime >= proto.stat().st_mtime for path in generated):
        subprocess.run(["protoc", "-I", folder / "proto", f"--cpp_out={folder}", f"--grpc_out={folder}",
                        f"--plugin=protoc-gen-grpc={plugin}", proto], check=True)
    libraries = _libraries("grpc++ protobuf")
    sources = [LOADTEST / "peers/cpp_grpc/server.cc", *generated]
    return compiled(folder / "server", ["g++", "-std=c++17", "-O2", f"-I{folder}"], sources, libraries)


def http_peers() -> Path:
    """Return a Python that has what the HTTP peers need, beside all that this one has.

    In an environment of its own, since uvicorn would use uvloop wherever it finds it.

    Raises:
        Missing: the packages cannot be had.
    """
    folder = BUILD / "http-peers"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "beside.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
        done = subprocess.run([python, "-m", "pip", "install", "-q", *HTTP_PEERS], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            raise Missing(f"pip install {' '.join(HTTP_PEERS)}: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return python


def compiled(target: Path, command: Sequence[str], sources: Sequence[Path], libraries: Sequence[str],
             headers: Sequence[Path] = ()) -> Path:
    """Compile a program unless it is newer than its sources.

    Raises:
        Missing: the compiler is not there or refused; its text is passed on.
    """
    newest = max(path.stat().st_mtime for path in [*sources, *headers])
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([*command, "-o", target, *sources, *libraries], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Missing(f"no compiler {command[0]}: apt-get install build-essential") from error
    except subprocess.CalledProcessError as error:
        raise Missing(f"{target.name} does not compile: {error.stderr[-2000:]}") from error
    return target


def _plain_proto(folder: Path) -> Path:
    """Copy the API without ``debug_redact``, which Debian's protoc is too old to know."""
    source = ROOT / "proto/verifier/v1/verifier.proto"
    copy = folder / "proto/verifier/v1/verifier.proto"
    text = source.read_text().replace(" [debug_redact = true]", "")
    if not copy.exists() or copy.read_text() != text:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    return copy


def _libraries(packages: str) -> list[str]:
    tool = shutil.which("pkg-config")
    if tool is None:
        raise Missing("apt-get install pkg-config libgrpc++-dev")
    command = [tool, "--cflags", "--libs", *packages.split()]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Missing(f"apt-get install libgrpc++-dev ({answer.stderr.strip()})")
    return answer.stdout.split()
