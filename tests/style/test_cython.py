"""Rules of the compiled hot path that the compiler does not enforce.

A C function without ``noexcept`` takes the GIL whenever it returns its error value, -1: in a loop thread that is a wait
of up to the switch interval, in the middle of a call.
"""

import re
from pathlib import Path

import pytest

from tests.style._sources import ROOT, cython_files, python_files, relative

# A function that returns a Python object is Python-side by nature: the compiler lets no nogil code call it.
OBJECT_TYPES = {"object", "bytes", "str", "dict", "list", "tuple", "bytearray"}

# Other functions that plainly work on Python objects, each with the reason.
PYTHON_SIDE: dict[str, str] = {
    "_compare._begin": "called with the GIL twice per comparison; reads its arguments",
    "_map._attach": "runs with the GIL once per load, to raise what went wrong",
    "_records.copy": "reads Python bytes objects",
    "_view.staleness_of": "of Python calls only; raises once the view is closed",
    "_view.utf8_of": "reads a Python string",
    "_view._attach": "runs with the GIL once per load, to raise what went wrong",
    "_view._attach_switches": "runs with the GIL once per load, to raise what went wrong",
    "_view.set_conditions": "reads the arguments of the Python call View.verify",
    "_view.set_key": "reads the arguments of the Python call View.verify",
    "_tagset.checked": "reads a Python bytes object",
    "_map.open_checked": "runs with the GIL once per load, to raise what went wrong",
}

# Generated C of these modules may take the GIL to report an error: they have Python-facing code only.
NOT_HOT: dict[str, str] = {}

NOT_A_FUNCTION = re.compile(r"cdef\s+(class|struct|union|enum|extern|packed)\b|cdef\s*:")


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Join lines inside brackets, without comments and docstrings; each with the number of its first line."""
    text = re.sub(r'("""|\'\'\').*?\1', lambda match: "\n" * match.group().count("\n"), text, flags=re.DOTALL)
    lines: list[tuple[int, str]] = []
    open_brackets = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"#.*", "", raw).rstrip()
        if open_brackets:
            lines[-1] = (lines[-1][0], lines[-1][1] + " " + line.strip())
        elif line.strip():
            lines.append((number, line))
        open_brackets += sum(line.count(bracket) for bracket in "([{") - sum(line.count(bracket) for bracket in ")]}")
    return lines


def declared_functions(text: str) -> list[tuple[int, str, str]]:
    """List (line, name, declaration) of the C functions that a Cython source defines or declares as its own."""
    found = []
    extern_indent: int | None = None
    for number, line in logical_lines(text):
        indent = len(line) - len(line.lstrip())
        if extern_indent is not None and indent > extern_indent:
            continue
        extern_indent = indent if re.match(r"\s*cdef\s+extern\b", line) else None
        if not re.match(r"\s*(cdef|cpdef|ctypedef)\b", line) or NOT_A_FUNCTION.match(line.strip()):
            continue
        head = line.split("=", 1)[0]
        match = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", head) or re.search(r"(\w+)\s*\(", head)
        if match:
            found.append((number, match.group(1), line.strip()))
    return found


def returns_object(declaration: str) -> bool:
    """Tell whether a function's result is a Python object, which it is too when no type is written."""
    words = re.sub(r"\b(cdef|cpdef|inline|api|public)\b", "", declaration.split("(", 1)[0]).split()
    return len(words) == 1 or (len(words) == 2 and (words[0] in OBJECT_TYPES or words[0].istitle()))


def test_the_parser_sees_what_it_should():
    text = '''
cdef extern from "x.h":
    int outside(int)
cdef inline int good(int a,
                     int b) noexcept nogil:
    cdef int c = outside(a)
    return c
cdef int bad(int a) nogil:
    return a
ctypedef void (*callback_t)(int) noexcept nogil
cdef class C:
    cdef object _keep
    cdef int method(self) noexcept nogil
'''
    assert ["good", "bad", "callback_t", "method"] == [name for _, name, _ in declared_functions(text)]


@pytest.mark.parametrize(("expected", "declaration"), [
    (True, "cdef object f(x)"),
    (True, "cdef f(x):"),
    (True, "cdef inline bytes f(x):"),
    (True, "cdef Answer f(x):"),
    (False, "cdef int f(x) except -1"),
    (False, "cdef inline void f(x)"),
    (False, "cdef const char* f(x)"),
    (False, "ctypedef void (*f)(int)"),
])
def test_python_objects_are_told_from_c_results(expected: bool, declaration: str):
    assert expected == returns_object(declaration)


@pytest.mark.parametrize("path", cython_files(), ids=relative)
def test_c_functions_are_noexcept_nogil(path: Path):
    wrong = [
        f"line {number}: {declaration}"
        for number, name, declaration in declared_functions(path.read_text())
        if not re.search(r"noexcept\s+nogil\s*:?$", declaration)
        and not returns_object(declaration)
        and f"{path.stem}.{name}" not in PYTHON_SIDE
    ]
    assert [] == wrong


def test_exceptions_to_the_rule_still_exist():
    known = {f"{path.stem}.{name}" for path in cython_files() for _, name, _ in declared_functions(path.read_text())}
    assert set() == set(PYTHON_SIDE) - known
    assert set() == set(NOT_HOT) - {path.stem for path in cython_files()}


@pytest.mark.parametrize("path", sorted((ROOT / "ext" / "verifier").glob("*.pyx")), ids=relative)
def test_generated_code_never_takes_the_gil_for_an_error(path: Path):
    generated = ROOT / "build" / "cython" / "ext" / "verifier" / f"{path.stem}.c"
    if not generated.exists():
        pytest.skip("not built here")
    assert path.stem in NOT_HOT or "__Pyx_ErrOccurredWithGIL" not in generated.read_text(errors="replace")


def test_compiled_modules_that_python_imports_have_stubs():
    imported = {
        name
        for path in python_files("verifier")
        for name in re.findall(r"verifier\.(_\w+)|from verifier import (_\w+)", path.read_text())
    }
    compiled = {path.stem for path in (ROOT / "ext" / "verifier").glob("*.pyx")}
    stubs = {path.stem for path in (ROOT / "verifier").glob("_*.pyi")}
    assert set() == (compiled & {name for names in imported for name in names}) - stubs
