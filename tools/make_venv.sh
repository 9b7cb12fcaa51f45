#!/bin/sh
# Makes or refreshes .venv in the current directory. Called by `make setup`; no root needed.
# PYTHON=/path/to/python overrides the search for an interpreter.
set -eu

venv=.venv
half=$venv/.half-made # there from the first moment of a new .venv until it is complete
extras=testbed,train,digits,onnx,emsfl,export,plot,bench,dev

say() { printf 'setup: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# An interpreter counts only if it runs: version managers leave names behind that do not.
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
can_make_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    python='' without_venv=''
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.11 python3.12 python3.13 python3
    fi
    for candidate in "$@"; do
        new_enough "$candidate" || continue
        if can_make_venvs "$candidate"; then
            python=$candidate
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    if [ -n "$without_venv" ]; then
        package=python$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
        fail "$without_venv lacks the venv module or ensurepip; install the package $package (Debian, Ubuntu: sudo apt-get install $package), then run make setup again."
    fi
    fail "found no Python 3.11 or newer that runs (tried: $*); install one, or name it: make setup PYTHON=/path/to/python3.11"
}

announce_download() {
    cat <<'TEXT'
setup: about to download, with pip and as pip is configured (its indexes, proxies, caches and wheels):
setup:   - numpy, SciPy, scikit-learn, gRPC, ZeroMQ, ONNX Runtime and its exporter, Skyfield, Matplotlib and the
setup:     development tools: about 215 MB
setup:   - PyTorch: about 200 MB as a CPU-only wheel (less on macOS and on Arm)
setup:   and to fill about 1.5 GB of disk. What pip has cached is not fetched again.
setup:   On x86-64 Linux pip's default index holds PyTorch built for CUDA: about 530 MB, and some GB of CUDA
setup:   libraries. To get the CPU-only wheel instead, give pip PyTorch's CPU index as an extra index before
setup:   make setup (pip config set global.extra-index-url, or PIP_EXTRA_INDEX_URL); PyTorch's "Start
setup:   Locally" page shows its address when you choose Pip and CPU.
TEXT
}

install() {
    "$venv/bin/python" -m pip install --constraint constraints.txt --editable ".[$extras]"
}

remove_half_made() {
    status=$?
    trap - EXIT
    if [ -e "$half" ]; then
        rm -rf "$venv"
        say "failed; removed the unfinished $venv" >&2
        [ "$status" -ne 0 ] || status=1
    fi
    exit "$status"
}

if [ -e "$half" ]; then
    say "an earlier setup was cut off; starting again"
    rm -rf "$venv"
elif [ -e "$venv" ] && ! new_enough "$venv/bin/python"; then
    say "the Python of the present $venv is gone or too old; starting again"
    rm -rf "$venv"
fi

if [ -e "$venv" ]; then
    # It worked before, so a failure (no network, say) leaves it; without a new stamp make tries again.
    say "bringing the present $venv up to date"
    announce_download
    install || fail "could not bring $venv up to date; it may lack what pyproject.toml now asks for"
else
    find_python
    say "using $python ($("$python" -c 'import platform; print(platform.python_version())'))"
    announce_download
    trap remove_half_made EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir "$venv"
    : >"$half"
    "$python" -m venv "$venv"
    install
    rm "$half"
    trap - EXIT
fi
touch "$venv/.stamp"
say "done"
