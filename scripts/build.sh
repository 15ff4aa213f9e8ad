#!/usr/bin/env bash
# Builds the plugin, `sr`, `train` and the demo into target/release; its
# arguments choose less of it, such as `--lib`.
#
# cargo compiles a dependency once for each set of features that it is asked
# for with, and the packages and targets on the command line decide on those.
# Here they are as `cargo test --release --workspace` has them (an example needs
# what the tests need), so that the demo, the build and the tests share candle.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
if [ $# -eq 0 ]; then
    set -- --lib --bins
fi
# The Python module is none of GStreamer's plugins, which would try to load it.
cargo build --release --workspace --exclude srfilter-python --example demo "$@"
