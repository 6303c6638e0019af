#!/bin/sh
# Installs exactly the packages of the lock file into the virtual environment of the first argument.
# It asks no question, needs no root, and writes only there and into the package caches.
set -eu

environment=$1
python=${PYTHON:-python3}

fail() {
    printf 'setup: %s\n       %s\n' "$1" "$2" >&2
    exit 1
}

trap 'printf "\nsetup: interrupted; the next make starts it again\n" >&2; exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Shows the output of a command only if it fails.
show_failure() {
    output=$("$@" 2>&1) || { code=$?; printf '%s\n' "$output" >&2; return $code; }
}

no_packages() {
    fail "the locked packages could not be installed; see the messages above." \
        "This needs PyPI, the Python Package Index, once. Behind a proxy set HTTPS_PROXY;
       with a mirror set PIP_INDEX_URL, and PIP_CERT for its own certificate. Then repeat it."
}

command -v "$python" >/dev/null 2>&1 ||
    fail "there is no '$python' on this machine." "Install Python 3.11 or later."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old; Carnet needs Python 3.11 or later." \
        "Install one and name it: make setup PYTHON=python3.12"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "this Python cannot create virtual environments (module venv or ensurepip is missing)." \
        "On Debian and Ubuntu: apt install python3-venv"

# An environment does not work if its checkout was moved or its Python was removed. One of another
# Python than $PYTHON would ignore that variable.
which_python='import sys; print(sys.base_prefix, sys.version)'
present=$("$environment/bin/python" -c "$which_python" 2>/dev/null || true)
if [ "$(cat "$environment/.location" 2>/dev/null)" != "$PWD" ] || [ -z "$present" ] ||
    { [ -n "${PYTHON:-}" ] && [ "$("$python" -c "$which_python")" != "$present" ]; }; then
    echo "setup: creating the virtual environment $environment with $("$python" --version)"
    rm -rf "$environment"
    show_failure "$python" -m venv "$environment"
fi

# uv itself is installed with the hashes of the lock file, like all packages.
echo "setup: installing the locked packages (the first time takes about a minute)"
own_lock="$environment/uv.lock"
sed -n '/^uv==/,/[^\\]$/p' requirements-dev.lock >"$own_lock"
"$environment/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$own_lock" ||
    no_packages

# The configuration of pip on this machine (a mirror, a certificate) is used for uv too.
index=${PIP_INDEX_URL:-$("$environment/bin/python" -m pip config get global.index-url 2>/dev/null || true)}
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"

uv() {
    "$environment/bin/uv" "$@" --quiet --python "$environment/bin/python"
}
uv pip sync --require-hashes --compile-bytecode requirements-dev.lock ||
    "$environment/bin/python" -m pip install --quiet --require-hashes -r requirements-dev.lock ||
    no_packages
uv pip install --no-deps --no-build-isolation --offline -e .

printf '%s\n' "${PYTHON:-}" >"$environment/.python"
printf '%s\n' "$PWD" >"$environment/.location"
