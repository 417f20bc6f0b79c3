#!/bin/sh
# Make .venv: install what pip needs from the distribution, where it is missing, and the project into a venv.
#
# usage: bootstrap.sh [setup|install|dev|test]
#   setup    (default) packages and venv, with the tools for tests and linters
#   install  the same without these tools
#   dev      the package that only `make lint` needs
#   test     a browser and tools that only `make test` needs
# PYTHON names the interpreter to use, VENV the directory to make.
set -eu
cd "$(dirname "$0")"

part=${1:-setup}
venv=${VENV:-.venv}

die() {
    echo "bootstrap: $*" >&2
    exit 2
}

# The distribution's names for what is missing, one function a package manager.
missing_debian() {
    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}
missing_redhat() {
    for package; do
        rpm -q --whatprovides "$package" >/dev/null 2>&1 || printf '%s ' "$package"
    done
}

install_missing() {
    if command -v apt-get >/dev/null 2>&1; then
        lint=shellcheck
        testing='chromium chromium-driver fdisk ninja-build openssh-client patchelf systemd' # systemd: for systemd-analyze
        base='python3 python3-venv python3-dev gcc libc6-dev pkg-config libvirt-dev'
        query=missing_debian
        command='apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends'
    elif command -v dnf >/dev/null 2>&1; then
        lint=ShellCheck
        testing='chromium chromedriver ninja-build openssh-clients patchelf systemd util-linux'
        base='python3 python3-devel gcc pkgconf-pkg-config libvirt-devel'
        query=missing_redhat
        command='dnf install -y --setopt=install_weak_deps=False'
    else
        die "neither apt-get nor dnf here; install python >= 3.11 with venv and headers, a C compiler, pkg-config" \
            "and libvirt's headers by hand, then: python3 -m venv $venv && $venv/bin/pip install -e '.[dev]'"
    fi
    case $part in
        dev) wanted=$lint ;;
        test) wanted=$testing ;;
        *) wanted=$base ;;
    esac
    # shellcheck disable=SC2086 # package names are words
    missing=$($query $wanted)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        as_root='sh -c'
    elif command -v sudo >/dev/null 2>&1; then
        as_root='sudo sh -c'
    else
        die "missing packages: $missing
Neither root nor sudo here. Run as root:
    $command $missing"
    fi
    echo "bootstrap: installing $missing" >&2
    $as_root "$command $missing" || die "could not install $missing; see above"
}

# Packages first: they bring the interpreter on a fresh machine.
usable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || die "PYTHON=$PYTHON is not a Python >= 3.11 that runs"
        echo "$PYTHON"
        return
    fi
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "no Python >= 3.11 here; install one and name it: make setup PYTHON=/path/to/python3"
}

inputs() {
    cat pyproject.toml constraints.txt bootstrap.sh | sha256sum
    echo "$PWD .$extras"
}

make_venv() {
    stamp=$venv/.bootstrapped
    if [ -x "$venv/bin/harness" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(inputs)" ]; then
        return
    fi
    install_missing
    python=$(find_python)
    [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv" || die "$python cannot make a venv in $venv"
    "$venv/bin/python" -m pip install --disable-pip-version-check -q -c constraints.txt -e ".$extras" ||
        die "pip failed; see above (remove $venv to begin anew)"
    inputs >"$stamp"
    echo "bootstrap: installed $venv/bin/harness"
}

case $part in
    setup) extras='[dev]' && make_venv ;;
    install) extras='' && make_venv ;;
    dev | test) install_missing ;;
    *) die "unknown part $part; one of setup, install, dev, test" ;;
esac
