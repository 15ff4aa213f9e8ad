#!/usr/bin/env bash
# Builds with the features `cuda` and `cudnn`, checks that the binaries load on a
# machine without CUDA, and runs the tests of the GPU code on the emulated driver.
# Needs no GPU.
#
#   scripts/cuda-test.sh             always; half an hour on two cores
#   scripts/cuda-test.sh --changed   for CI: nothing if all have passed on the
#                                    same files, else all but training steps
#
# tests/cuda/passed names the files that they last passed on: commit it with the
# change that they were run for.
#
# The emulated driver compiles candle's kernels for the CPU by itself, so that a
# stand-in takes the place of nvcc for them; srfilter's own are compiled by both.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin

covered=(Cargo.lock Cargo.toml build.rs cuda plugin src testing tests/common tests/cuda/*.?pp
    tests/cuda_memory.rs tests/golden tests/golden.rs tests/gpu.rs train/src train/tests)
hash=$(git ls-files -s -- "${covered[@]}" | sha256sum | cut -d' ' -f1)
passed=tests/cuda/passed
clean() { git diff --quiet -- "${covered[@]}" && [ -z "$(git ls-files -o --exclude-standard -- "${covered[@]}")" ]; }
if [ "${1:-}" = --changed ] && clean && grep -qsx "$hash" "$passed"; then
    echo "the GPU code's tests have passed on these files"
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
# As the tests have it, so that nothing is compiled twice.
scripts/build.sh --lib --bins --features "$features"

for file in libgstsrfilter.so sr train; do
    file=$CARGO_TARGET_DIR/release/$file
    if readelf -d "$file" | grep -E 'NEEDED.*lib(cuda|cublas|curand|cudnn|nvrtc)'; then
        echo "$file needs CUDA to load" >&2
        exit 1
    fi
    echo "$file loads without CUDA"
done

# Those that run on the emulated driver, and those of the library loader.
tests=(gpu cuda_memory golden overlap host_memory load)
skip=()
if [ "${1:-}" = --changed ]; then
    # Training steps, a quarter of an hour.
    skip=(--skip on_a_gpu::)
else
    tests+=(on_gpu)
fi
cargo test --release --workspace --features "$features" --no-fail-fast \
    "${tests[@]/#/--test=}" -- "${skip[@]}"

# Files that are not in the index have no hash.
if [ "${1:-}" != --changed ] && clean; then
    echo "$hash" > "$passed"
fi
