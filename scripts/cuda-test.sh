#!/usr/bin/env bash
# Builds with the features `cuda` and `cudnn`, checks that the binaries load on a
# machine without CUDA, and runs the tests of the GPU code on the emulated driver.
# Needs no GPU; half an hour or more on two cores. Writes tests/cuda/passed.
#
# The emulated driver compiles candle's kernels for the CPU by itself, so that a
# stand-in takes the place of nvcc for them; srfilter's own are compiled by both.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin

# For scripts/cuda-toolkit.sh, and the encoders that the plugin's tests take.
scripts/setup.sh g++ python3-venv gstreamer1.0-plugins-ugly
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
# As the tests have it, so that nothing is compiled twice.
scripts/build.sh --lib --bins --features "$features"

for file in libgstsrfilter.so sr train; do
    file=$CARGO_TARGET_DIR/release/$file
    [ -f "$file" ]
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
scripts/cuda-sources.sh > tests/cuda/passed
