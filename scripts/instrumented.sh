#!/usr/bin/env bash
# Build a copy of the tree with instruments in build/<kind> and run tests against it, so that the ordinary build stays.
#
#   scripts/instrumented.sh sanitize [PYTEST ARGUMENTS]    AddressSanitizer and UndefinedBehaviorSanitizer
#   scripts/instrumented.sh coverage [PYTEST ARGUMENTS]    gcov; prints the coverage of each module of ext/
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-}
case "$kind" in
    sanitize | coverage) shift ;;
    *) sed -n '4,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
python=$PWD/.venv/bin/python
copy=$PWD/build/$kind

mkdir -p "$copy"
# Ordinary builds of the extension stay behind; times are kept, so that only what changed is compiled again.
tar -cf - --exclude='*.so' --exclude='__pycache__' \
    ext verifier loadtest tests scripts proto docs deploy pyproject.toml setup.py README.md LICENSE Makefile .ci \
    | tar -xf - -C "$copy"
cd "$copy"
export "VERIFIER_${kind^^}=1"
"$python" setup.py -q build_ext --inplace

# Where tests start the verifier as a program, they must find the copy too.
export PYTHONPATH=$copy
"$python" - <<CHECK
import importlib.util
origin = importlib.util.find_spec("verifier._tag").origin
assert origin.startswith("$copy/"), f"the tests would run {origin}, which has no instruments"
CHECK
if [ "$kind" = sanitize ]; then
    export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export PYTHONMALLOC=malloc  # Python's own pools would hide overruns from the sanitizer
    preload="$("${CC:-cc}" -print-file-name=libasan.so) $("${CC:-cc}" -print-file-name=libubsan.so)"
    [ "$#" -gt 0 ] || set -- tests/unit tests/integration tests/adversity tests/fuzz
    LD_PRELOAD=$preload "$python" -m pytest -p no:cacheprovider -m "not campaign and not gateways" "$@"
else
    find build -name '*.gcda' -delete
    status=0
    "$python" -m pytest -p no:cacheprovider -m "not campaign and not gateways" --ignore=tests/style "$@" || status=$?
    "$python" scripts/coverage_report.py .
    exit "$status"
fi
