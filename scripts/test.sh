#!/usr/bin/env bash
# Runs every test, on what scripts/build.sh builds. `cargo test --workspace` runs
# them with checked arithmetic and assertions.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
# x264, for clips as streams are; GNU parallel, for segments.
scripts/setup.sh gstreamer1.0-plugins-ugly parallel
cargo test --release --workspace
