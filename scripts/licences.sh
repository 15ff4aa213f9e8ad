#!/usr/bin/env bash
# Writes the licences of all crates in the plugin, the commands and the Python module to
# target/licences.txt, for the packages.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo_about=0.9.3
export PATH=$PATH:$HOME/.cargo/bin
tools=target/tools
if [ "$("$tools/bin/cargo-about" --version 2>/dev/null)" != "cargo-about $cargo_about" ]; then
    cargo install --quiet --locked --root "$tools" --features cli cargo-about@$cargo_about
fi
cargo fetch --quiet --locked
# From the crates alone: the same text every time.
"$tools/bin/cargo-about" generate --workspace --fail --frozen --config scripts/release/about.toml \
    --output-file target/licences.txt scripts/release/licences.hbs
