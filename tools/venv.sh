#!/bin/sh
# Make .venv and install a lock file and this project into it. Usage: tools/venv.sh LOCK
# Finds a Python by itself ($PYTHON first); what Debian leaves out (python3-venv) it installs as root, or names.
set -eu

lock=$1

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

install_debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Debian packages: $*"
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
    else
        echo "hunqi needs Python 3.11 or newer with venv. As root: apt-get install $*" >&2
        exit 1
    fi
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    find_python >/dev/null || install_debian python3 python3-venv
    python=$(find_python) || { echo "no Python 3.11 or newer was found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
    # Debian ships venv but not what it needs; whichever Python it is, ask it itself.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_debian python3-venv
    "$python" -c 'import ensurepip, venv' 2>/dev/null || {
        echo "$python cannot make virtual environments (its ensurepip is missing); name another: make PYTHON=/path" >&2
        exit 1
    }
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

echo "installing from $lock (once; takes up to a minute)"
export PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/python -m pip install --quiet --require-hashes -r "$lock"
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
