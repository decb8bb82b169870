"""Build the compiled hot path: every ``ext/verifier/*.pyx`` becomes ``verifier.<name>``.

Metadata lives in pyproject.toml. Switches are environment variables:

    VERIFIER_DEBUG=1      -O0 -g, C assertions on
    VERIFIER_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer
    VERIFIER_COVERAGE=1   gcov counters (never Cython line tracing: it takes the GIL in nogil code)
    VERIFIER_ONLY=a,b     only these modules, for a quick rebuild
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = Path("ext/verifier")
HEADERS = ("nghttp2/nghttp2.h", "openssl/sha.h")
DEBIAN_PACKAGES = "python3-dev libnghttp2-dev libssl-dev"
# Set once for all modules. cdivision: a checked division takes the GIL to report a zero divisor.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
    "auto_pickle": False,
}


def switch(name: str) -> bool:
    """Tell whether the environment turns ``VERIFIER_<name>`` on."""
    return os.environ.get(f"VERIFIER_{name}", "") not in ("", "0")


def pkg_config(option: str, packages: str) -> list[str]:
    """Ask pkg-config, or answer nothing where it is not installed."""
    tool = shutil.which("pkg-config")
    if tool is None:
        return []
    answer = subprocess.run([tool, option, *packages.split()], capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []


def require_headers(compile_flags: list[str]) -> None:
    """Stop with the command that helps when a system library's headers are missing.

    The compiler is asked, so that headers in any folder it searches count.
    """
    source = "".join(f"#include <{header}>\n" for header in HEADERS)
    compiler = os.environ.get("CC", "cc").split()
    try:
        probe = subprocess.run(
            [*compiler, *compile_flags, "-E", "-x", "c", "-o", os.devnull, "-"],
            input=source, capture_output=True, text=True, check=False,
        )
    except FileNotFoundError:
        sys.exit("verifier: no C compiler. On Debian or Ubuntu:\n"
                 f"    sudo apt-get install build-essential {DEBIAN_PACKAGES}")
    if probe.returncode != 0:
        sys.exit("verifier: headers of nghttp2 or OpenSSL are missing. On Debian or Ubuntu:\n"
                 f"    sudo apt-get install {DEBIAN_PACKAGES}")


def flags() -> tuple[list[str], list[str]]:
    """Return the compiler's and the linker's flags for the chosen build."""
    compile_flags = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-std=gnu11"]
    link_flags: list[str] = []
    if switch("DEBUG"):
        compile_flags += ["-O0", "-g", "-UNDEBUG"]
    else:
        compile_flags += ["-O2", "-g1"]
    if switch("SANITIZE"):
        sanitizers = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
        compile_flags += sanitizers
        link_flags += sanitizers
    if switch("COVERAGE"):
        compile_flags += ["--coverage", "-O0"]
        link_flags += ["--coverage"]
    return compile_flags, link_flags


def extensions() -> list[Extension]:
    """List one extension per module of the hot path."""
    compile_flags, link_flags = flags()
    compile_flags += pkg_config("--cflags", "libnghttp2 libcrypto")
    require_headers(compile_flags)
    libraries = pkg_config("--libs", "libnghttp2 libcrypto") or ["-lnghttp2", "-lcrypto"]
    only = set(filter(None, os.environ.get("VERIFIER_ONLY", "").split(",")))
    return [
        Extension(
            f"verifier.{source.stem}",
            [str(source)],
            extra_compile_args=compile_flags,
            extra_link_args=[*link_flags, *libraries],
        )
        for source in sorted(SOURCES.glob("*.pyx"))
        if not only or source.stem in only
    ]


setup(
    options={"build_ext": {"parallel": True}},
    ext_modules=cythonize(
        extensions(),
        include_path=["ext"],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
    )
)
