#!/usr/bin/env bash
# Compares the engine with others: see README.md next to this file, or --help.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
PATH=$PATH:$HOME/.cargo/bin
folder=${CARGO_TARGET_DIR:-$root/target}/peers
mkdir -p "$folder"

# One environment for each list of versions.
venv=$folder/venv-$(sha256sum "$here/requirements.txt" | cut -c1-12)
if [ ! -e "$venv/complete" ]; then
    echo "Setting up the peers in $venv" >&2
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/complete"
fi

build=(cargo build --release --bench peers --message-format=json-render-diagnostics)
worker=$(cd "$root" && "${build[@]}" |
    sed -n 's/.*"name":"peers".*"executable":"\([^"]*\)".*/\1/p')
exec "$venv/bin/python" "$here/peers.py" --worker "$worker" --folder "$folder" "$@"
