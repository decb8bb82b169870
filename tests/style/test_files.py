"""Rules for all files: how long, what documented, what never written down."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.style._sources import cython_files, is_generated, python_files, relative, text_files

LINES_MAX = 500


def test_no_file_is_long():
    files = [*python_files(), *cython_files()]
    long = {relative(path): lines for path in files if (lines := len(path.read_text().splitlines())) > LINES_MAX}
    assert {} == long


def public_definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield public functions and classes, with the methods of public classes, but nothing inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            decorators = [ast.unparse(decorator) for decorator in child.decorator_list]
            if any(name.endswith(".setter") or name in {"overload", "override"} for name in decorators):
                continue
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{prefix}{child.name}.")


@pytest.mark.parametrize("path", python_files("verifier", "loadtest", "scripts"), ids=relative)
def test_modules_and_public_definitions_have_docstrings(path: Path):
    tree = ast.parse(path.read_text())
    bare = [name for name, node in public_definitions(tree) if not ast.get_docstring(node)]
    if not ast.get_docstring(tree):
        bare.insert(0, "(module)")
    assert [] == bare


def test_no_path_of_one_machine():
    # Written in pieces, or this file would be a finding itself.
    machine = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + r"home/(?!USER)\w+/"]))
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if machine.search(line)
    ]
    assert [] == found


SECRET_NAMES = {"token", "tokens", "secret", "secrets", "pepper", "peppers", "digest", "request"}
LOG_METHODS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "log"}


def spoken(node: ast.AST) -> set[str]:
    """Return the variables whose own value an expression would print (``len(tokens)`` prints none)."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.JoinedStr | ast.FormattedValue | ast.BinOp | ast.Tuple | ast.List | ast.Dict | ast.keyword):
        return set().union(*(spoken(child) for child in ast.iter_child_nodes(node)), set())
    return set()


def leaks(tree: ast.AST) -> Iterator[str]:
    """Yield the calls that log, or raise as an error's text, a variable with the name of a secret."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        method = node.func if isinstance(node.func, ast.Attribute) else None
        logs = method is not None and method.attr in LOG_METHODS and "log" in ast.unparse(method.value)
        raises = isinstance(node.func, ast.Name) and node.func.id in error_classes()
        if logs or raises:
            for argument in [*node.args, *node.keywords]:
                if SECRET_NAMES & spoken(argument):
                    yield f"line {node.lineno}: {ast.unparse(node)}"


def error_classes() -> set[str]:
    """Name the classes whose text a user or a log sees."""
    from verifier import errors

    return {name for name in vars(errors) if isinstance(getattr(errors, name), type)}


@pytest.mark.parametrize("source", [
    "log.info('x', token=token)", "logger.warning(f'bad {token}')", "self._log.error('%s' % secret)",
    "raise InvalidInput(f'{token}')",
])
def test_the_leak_rule_catches(source: str):
    assert 1 == len(list(leaks(ast.parse(source))))


@pytest.mark.parametrize("source", [
    "log.info('x', tokens=len(tokens))", "log.info('token refused')", "raise InvalidInput('no token')",
])
def test_the_leak_rule_lets_pass(source: str):
    assert [] == list(leaks(ast.parse(source)))


def test_no_token_is_logged_or_in_an_error():
    found = [
        f"{relative(path)} {leak}"
        for path in python_files("verifier")
        for leak in leaks(ast.parse(path.read_text()))
    ]
    assert [] == found


def test_generated_files_are_told_apart():
    assert is_generated(Path("verifier_pb2_grpc.py"))
    assert not is_generated(Path("verifier.py"))
