#!/usr/bin/env bash
# Compares the engine with others: see README.md next to this file, or --help.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
PATH=$PATH:$HOME/.cargo/bin
folder=${CARGO_TARGET_DIR:-$root/target}/peers
mkdir -p "$folder"

# The environment for a list of versions.
environment() {
    local venv
    venv=$folder/venv-$(sha256sum "$here/$1" | cut -c1-12)
    if [ ! -e "$venv/complete" ]; then
        echo "Setting up the peers in $venv" >&2
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/$1"
        touch "$venv/complete"
    fi
    echo "$venv"
}
venv=$(environment requirements.txt)
case " $*" in
*train-*)
    # With another Python that has it, such as one of a build without CUDA: PYTORCH=python.
    python=${PYTORCH:-$(environment requirements-training.txt)/bin/python}
    set -- --pytorch "$python" "$@"
    ;;
esac

build=(cargo build --release --bench peers --message-format=json-render-diagnostics)
worker=$(cd "$root" && "${build[@]}" |
    sed -n 's/.*"name":"peers".*"executable":"\([^"]*\)".*/\1/p')
exec "$venv/bin/python" "$here/peers.py" --worker "$worker" --folder "$folder" "$@"
