#!/usr/bin/env bash
# Runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
# The plugin as a file, for tests that load it as users do.
cargo build --workspace --quiet
cargo test --workspace
