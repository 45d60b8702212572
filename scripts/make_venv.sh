#!/bin/sh
# Makes or updates the virtual environment: the exact pins of requirements-dev.txt, and this project, editable.
# Usage: scripts/make_venv.sh PYTHON FOLDER
set -eu
python=$1
venv=$2

fail() {
    echo "venv: $1" >&2
    exit 1
}

command -v "$python" >/dev/null ||
    fail "$python was not found: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3"
"$python" -c '' || fail "$python does not run (see above): name another with make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is older than 3.11: name a newer one with make PYTHON=python3.12"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments: install its venv package (on Debian and Ubuntu: apt-get install python3-venv)"

# An environment whose interpreter is gone or too old is made anew; any other is kept and brought up to date.
if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "venv: making $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# uv takes 3 seconds where pip takes 25. It knows nothing of pip's own settings, so where it cannot get at the
# packages, pip is asked.
echo "venv: installing requirements-dev.txt"
uv=$(grep '^uv==' requirements-dev.txt)
if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$uv" &&
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -r requirements-dev.txt; then
    :
else
    echo "venv: uv could not; trying pip"
    "$venv/bin/python" -m pip install --disable-pip-version-check -r requirements-dev.txt
fi

# Without build isolation: the generators are in the environment already.
echo "venv: installing stillpoint, editable"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

# Compiled once, here: where PYTHONDONTWRITEBYTECODE is set each start of a service would else compile it all again. What
# does not compile is a package's own template or test, and nobody imports it.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >/dev/null || true
