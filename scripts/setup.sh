#!/usr/bin/env bash
# Prepare this machine step by step. Each step may run again at any time and does only what is missing.
#
#   scripts/setup.sh system     what only the system's package manager can install
#   scripts/setup.sh venv       the virtual environment with what the build needs
#   scripts/setup.sh install    the package itself, editable, with its development tools
#   scripts/setup.sh tests      PostgreSQL, which only the tests need; without root rights, nothing
#
# PYTHON names the interpreter (default python3), VENV the environment (default .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '==> %s\n' "$*"; }
fail() { printf 'verifier: %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 3; }

check_python() {
    command -v "$PYTHON" >/dev/null 2>&1 || fail "there is no $PYTHON on the PATH" \
        "On Debian or Ubuntu: sudo apt-get install python3" "Another interpreter: make PYTHON=/path/to/python3.12 ..."
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
        "$PYTHON is $("$PYTHON" --version 2>&1); Python 3.11 or newer is needed" \
        "Name another interpreter: make PYTHON=python3.12 ..."
}

have_headers() { "${CC:-cc}" -E -x c -o /dev/null - <<<"#include <$1>" 2>/dev/null; }

# Ask the tools themselves instead of dpkg: an interpreter or library built by hand is as good as Debian's.
missing_packages() {
    command -v "${CC:-cc}" >/dev/null 2>&1 || { echo build-essential; echo libnghttp2-dev; echo libssl-dev; }
    "$PYTHON" -c 'import os, sysconfig as s; raise SystemExit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
        || echo python3-dev
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    if command -v "${CC:-cc}" >/dev/null 2>&1; then
        have_headers nghttp2/nghttp2.h || echo libnghttp2-dev
        have_headers openssl/sha.h || echo libssl-dev
    fi
}

# Become root without a prompt, or not at all: nobody may be there to type a password.
root_command() {
    if [ "$(id -u)" = 0 ]; then echo env
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then echo "sudo -n env"
    fi
}

setup_system() {
    check_python
    local missing root
    missing=$(missing_packages | paste -sd ' ' -)
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || fail "this machine lacks what Debian calls: $missing" \
        "There is no apt-get here; install their equivalents and run the same command again."
    root=$(root_command)
    [ -n "$root" ] || fail "Debian packages are missing, and root rights to install them. Run this, then the same command again:" \
        "sudo apt-get update && sudo apt-get install -y $missing"
    say "installing Debian packages: $missing"
    # Stale package lists are worth a try: they may know the packages already.
    $root DEBIAN_FRONTEND=noninteractive apt-get update -q || say "apt-get update failed; trying with the lists at hand"
    # shellcheck disable=SC2086  # both are lists of words
    $root DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing \
        || fail "apt-get could not install them" "sudo apt-get update && sudo apt-get install -y $missing"
    missing=$(missing_packages | paste -sd ' ' -)
    [ -z "$missing" ] || fail "still missing for $("$PYTHON" --version) after installing: $missing" \
        "Debian's packages serve Debian's Python; try: make PYTHON=/usr/bin/python3 ..."
}

build_requirements() {
    "$VENV/bin/python" -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))'
}

setup_venv() {
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || {
        say "creating $VENV with $("$PYTHON" --version)"
        "$PYTHON" -m venv --clear "$VENV"
    }
    say "installing what the build needs"
    local requirements
    mapfile -t requirements < <(build_requirements)
    "$VENV/bin/python" -m pip install -q "${requirements[@]}"
}

# Without build isolation: the environment has what the build needs, and nothing is fetched twice.
setup_install() {
    say "building the extension, installing the package and its development tools"
    "$VENV/bin/python" -m pip install -q --no-build-isolation -e '.[dev]'
}

# Where it can be neither found nor installed its tests are skipped. Debian keeps its programs off the PATH.
have_postgres() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1; }

setup_tests() {
    local root
    root=$(root_command)
    if have_postgres || [ -z "$root" ] || ! command -v apt-get >/dev/null 2>&1; then return 0; fi
    say "installing PostgreSQL for the tests"
    $root DEBIAN_FRONTEND=noninteractive apt-get update -q || say "apt-get update failed; trying with the lists at hand"
    $root DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql \
        || say "it could not be installed; its tests will be skipped"
}

case "${1:-}" in
    system | venv | install | tests) "setup_$1" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
