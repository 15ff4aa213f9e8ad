#!/usr/bin/env bash
# Runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
scripts/setup.sh
cargo test --workspace
