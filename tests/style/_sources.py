"""Where the project's own files are, for the tests of this folder."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON_ROOMS = ("verifier", "loadtest", "scripts", "tests")
TEXT_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".proto", ".toml", ".md", ".sh", ".yaml", ".yml", ".service", ".json"}
SKIPPED = {".git", ".venv", "build", "dist", "run", "bench-results", "node_modules", "__pycache__"}


def relative(path: Path) -> str:
    """Return a path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def is_generated(path: Path) -> bool:
    """Tell whether protoc wrote this file."""
    return re.search(r"_pb2(_grpc)?\.pyi?$", path.name) is not None


def python_files(*rooms: str) -> list[Path]:
    """List the hand-written Python files of some rooms (all, when none is named)."""
    found = (path for room in rooms or PYTHON_ROOMS for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if not is_generated(path))


def cython_files() -> list[Path]:
    """List the sources of the compiled hot path."""
    return sorted((ROOT / "ext").rglob("*.p[yx][xd]"))


def text_files() -> Iterator[Path]:
    """Yield every text file of the project, found without git so that an archive can be tested too."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir():
                if path.name not in SKIPPED and not path.name.startswith(".") and not path.name.endswith(".egg-info"):
                    folders.append(path)
            elif path.suffix in TEXT_SUFFIXES or path.name == "Makefile":
                yield path
    yield ROOT / ".ci" / "run"
