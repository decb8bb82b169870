"""Imports between rooms run downwards only, so that each room can be read with nothing but those below it in mind."""

import ast

from tests.style._sources import ROOT, python_files, relative

# From the top of the house to its floor; a room may import itself and any room after it.
ROOMS = ["cli", "admin", "server", "client", "control", "registry", "serving", "reporting", "store", "keyring"]
FLOOR = {"tokens", "vocabulary", "errors", "v1"}


def room_of(module: str) -> str | None:
    """Name the room of a dotted module under verifier, None for the package itself."""
    parts = module.split(".")
    if parts[:3] == ["verifier", "admin", "v1"]:
        return "v1"  # generated, and below all rooms
    return parts[1] if parts[0] == "verifier" and len(parts) > 1 else None


def imported(tree: ast.AST) -> set[str]:
    """Collect what a module imports, at its top or in a function, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"relative import in line {node.lineno}: write the whole name")
    return names


def depth(room: str) -> int:
    """Say how far down a room lies; compiled modules and the floor lie lowest."""
    return ROOMS.index(room) if room in ROOMS else len(ROOMS)


def test_every_folder_is_a_known_room():
    folders = {path.parent.name for path in (ROOT / "verifier").glob("*/__init__.py")}
    assert set() == folders - set(ROOMS) - FLOOR


def test_imports_run_downwards():
    upwards = []
    for path in python_files("verifier"):
        here = room_of(relative(path).removesuffix(".py").replace("/", "."))
        if here in (None, "__init__", "__main__"):
            continue
        for name in imported(ast.parse(path.read_text())):
            there = room_of(name)
            if there in ROOMS and depth(there) < depth(here):
                upwards.append(f"{relative(path)} imports {name}")
    assert [] == upwards


def test_the_product_imports_neither_tests_nor_loadtest():
    strays = [
        f"{relative(path)} imports {name}"
        for path in python_files("verifier")
        for name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in {"tests", "loadtest", "scripts"}
    ]
    assert [] == strays
