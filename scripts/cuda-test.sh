#!/usr/bin/env bash
# Builds with the features `cuda` and `cudnn`, checks that the binaries load on a
# machine without CUDA, and runs the tests of the GPU code on the emulated driver.
# Needs no GPU.
#
#   scripts/cuda-test.sh             always
#   scripts/cuda-test.sh --changed   only if the branch touches what the tests
#                                    cover, compared with $SRFILTER_BASE
#                                    (default: origin/main)
#
# The emulated driver compiles candle's kernels for the CPU by itself, so that a
# stand-in takes the place of nvcc for them; srfilter's own are compiled by both.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin

covered=(Cargo.lock build.rs cuda plugin/src src/chain src/engine src/nn src/ops
    testing tests/cuda tests/cuda_memory.rs tests/golden.rs tests/gpu.rs train/src)
base=${SRFILTER_BASE:-origin/main}
if [ "${1:-}" = --changed ] && git rev-parse -q --verify "$base^{commit}" >/dev/null &&
    [ "$(git rev-parse "$base")" != "$(git rev-parse HEAD)" ] &&
    git diff --quiet "$base...HEAD" -- "${covered[@]}"; then
    echo "the GPU code is as in $base: its tests are skipped"
    exit 0
fi

# For scripts/cuda-toolkit.sh, and the encoders that the plugin's tests take.
scripts/setup.sh g++ python3-venv gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad
target=${CARGO_TARGET_DIR:-target}
toolkit=$target/cuda-toolkit
scripts/cuda-toolkit.sh "$toolkit"
. "$toolkit/env.sh"
# A folder of its own, where candle's kernels are empty.
export CARGO_TARGET_DIR=$target/cuda-emulated NVCC=$PWD/scripts/nvcc-stub
# Functions that candle's empty kernels lack, and nothing calls.
export RUSTFLAGS=-Clink-arg=-Wl,--unresolved-symbols=ignore-all
# The kernels run in the emulator: what the compiler does for srfilter's own
# speed would take longer than it saves.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_DEBUG=false

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

# Those that run on the emulated driver, and those of the library loader.
tests=(gpu cuda_memory golden overlap host_memory on_gpu load)
cargo test --release --workspace --features "$features" --no-fail-fast \
    "${tests[@]/#/--test=}"
