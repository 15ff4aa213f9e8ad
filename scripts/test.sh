#!/usr/bin/env bash
# Runs every test, on what scripts/build.sh builds. `cargo test --workspace` runs
# them with checked arithmetic and assertions.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
# x264, for clips as streams are.
scripts/setup.sh gstreamer1.0-plugins-ugly
cargo test --release --workspace
