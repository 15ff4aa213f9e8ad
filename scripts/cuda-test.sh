#!/usr/bin/env bash
# Builds with the feature `cuda`, checks that the binaries load on a machine
# without CUDA, and runs all tests on the emulated driver. Needs no GPU. Slow the
# first time: candle compiles its kernels.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
# For scripts/cuda-toolkit.sh.
scripts/setup.sh g++ python3-venv gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad

target=${CARGO_TARGET_DIR:-target}
toolkit=$target/cuda-toolkit
scripts/cuda-toolkit.sh "$toolkit"
. "$toolkit/env.sh"
# A target folder of its own: candle is compiled with other features.
export CARGO_TARGET_DIR=$target/cuda

features=srfilter/cudnn,gst-plugin-srfilter/cuda,srfilter-cli/cuda,srfilter-train/cuda
cargo build --release --workspace --features "$features"

for file in libgstsrfilter.so sr train; do
    file=$CARGO_TARGET_DIR/release/$file
    if readelf -d "$file" | grep -E 'NEEDED.*lib(cuda|cublas|curand|cudnn|nvrtc)'; then
        echo "$file needs CUDA to load" >&2
        exit 1
    fi
    echo "$file loads without CUDA"
done

cargo test --release --workspace --features "$features"
