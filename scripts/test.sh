#!/usr/bin/env bash
# Runs every test, on what scripts/build.sh builds. `cargo test --workspace` runs
# them with checked arithmetic and assertions.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
# x264, for clips as streams are; GNU parallel, for segments; numpy, for the Python module.
scripts/setup.sh gstreamer1.0-plugins-ugly parallel python3-numpy
cargo test --release --workspace

# The Python module, by the system's Python. GStreamer would take it for a plugin beside its own.
cargo build --release --workspace --example demo --lib
target=${CARGO_TARGET_DIR:-target}
module=$target/python/srfilter
mkdir -p "$module"
mv "$target"/release/libsrfilter_python.so "$module"/_native.abi3.so
cp python/srfilter/__init__.py "$module"/
SR=$(realpath "$target"/release/sr) PYTHONPATH=$target/python /usr/bin/python3 python/tests/test_srfilter.py
