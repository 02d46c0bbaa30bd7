# shellcheck shell=bash
# Makes or reuses .venv in the repository root and sets PYTHON. Sourced by quickstart.sh, demo.sh and test.sh.
#   torch first and alone: on a machine without CUDA plain pip may find a CPU build, which is far smaller.
#   PYTHON_BIN=python3.12 chooses the interpreter.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=$repo/.venv/bin/python
export GOMP_SPINCOUNT=20000 # threads that spin longer slow two busy processes sixteenfold, shorter slow one
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

find_python() {
    local candidate
    for candidate in ${PYTHON_BIN:+"$PYTHON_BIN"} python3.11 python3.12 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 or 3.12 is needed; set PYTHON_BIN to one" >&2
    return 2
}

# run a command as root: directly, or by sudo where it asks no password
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

install_debian_packages() {
    local missing=() package
    command -v apt-get >/dev/null || return 0
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing Debian packages: ${missing[*]}"
    if ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1; then
        echo "  not installed (no right to, or no network); going on without them"
    fi
}

# what pyworld is compiled with
install_compiler() {
    local python
    python=$(find_python) || return
    command -v g++ >/dev/null || install_debian_packages g++
    "$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' ||
        install_debian_packages "$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')"
}

make_venv() {
    local python
    python=$(find_python) || return
    "$python" -c 'import ensurepip' 2>/dev/null ||
        install_debian_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    "$python" -m venv "$repo/.venv" && return
    rm -rf "$repo/.venv"
    echo "error: $python cannot make a virtual environment; install its venv package" >&2
    return 2
}

# install_python EXTRAS: the library, editable, with the exact versions of constraints.txt
install_python() {
    local extras=$1 stamp=$repo/.venv/installed-$1 wanted
    wanted=$(cat "$repo/pyproject.toml" "$repo/constraints.txt" | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
    echo "installing Python packages into .venv (once)"
    "$PYTHON" -m pip --version >/dev/null 2>&1 || make_venv
    "$PYTHON" -m pip install -qq --disable-pip-version-check "$(grep '^torch==' "$repo/constraints.txt")"
    "$PYTHON" -m pip install -qq --disable-pip-version-check \
        --constraint "$repo/constraints.txt" --editable "${repo}[$extras]"
    echo "$wanted" >"$stamp"
}
