#!/usr/bin/env bash
# Clippy and rustdoc over the code of the features `cuda` and `cudnn`. srfilter's own kernels
# are compiled for real; in place of nvcc for candle's, which nothing links here,
# scripts/nvcc-stub writes empty files.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
# For scripts/cuda-toolkit.sh.
scripts/setup.sh g++ python3-venv
target=${CARGO_TARGET_DIR:-target}
toolkit=$target/cuda-toolkit
scripts/cuda-toolkit.sh "$toolkit"
. "$toolkit/env.sh"
export NVCC=$PWD/scripts/nvcc-stub CARGO_TARGET_DIR=$target/cuda-lint
features=srfilter/cudnn,gst-plugin-srfilter/cuda,srfilter-cli/cuda,srfilter-train/cuda
# For release: there build scripts and macros are not optimised.
cargo clippy --release --workspace --all-targets --features "$features" -- -D warnings
RUSTDOCFLAGS=-Dwarnings cargo doc --release --no-deps --workspace --features "$features"
