#!/usr/bin/env bash
# Looks for memory errors that tests cannot see: AddressSanitizer over the
# kernels, the fused chains and the readers of weights, then valgrind over the
# upscaling of a tiny picture. About half an hour on two cores.
#
#   scripts/sanitize.sh [asan | valgrind]     default: both
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

asan() {
    scripts/setup.sh
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    # For this build alone: the sanitizer is an option of the nightly compiler.
    # --target keeps it out of build scripts and macros. Leaks are not looked
    # for: GStreamer and the thread pools hold memory until the process ends.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR=$target/asan \
        cargo test --release --target "$host" --workspace --no-fail-fast \
        --lib --test tiles --test frame_hashes --test fuzz --test torch --test weights
}

memcheck() {
    scripts/setup.sh valgrind
    scripts/build.sh
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    gst-launch-1.0 -q videotestsrc num-buffers=1 pattern=smpte ! \
        video/x-raw,format=RGB,width=20,height=14 ! pngenc ! filesink location="$dir/in.png"
    # Chains of every algorithm: Winograd's tiles, 9 x 9 kernels, luma and RGB.
    for model in espcn srcnn hypersrcnn compact; do
        echo "valgrind: $model"
        SRFILTER_CPU=avx2 valgrind --quiet --error-exitcode=99 --num-callers=30 \
            "$target/release/sr" upscale --model "$model" --scale 2 --threads 2 \
            "$dir/in.png" "$dir/$model.png"
        # The same bytes as without valgrind.
        SRFILTER_CPU=avx2 "$target/release/sr" upscale --model "$model" --scale 2 --threads 2 \
            "$dir/in.png" "$dir/native.png"
        cmp "$dir/$model.png" "$dir/native.png"
        rm "$dir/native.png"
    done
}

case ${1:-both} in
    asan) asan ;;
    valgrind) memcheck ;;
    both)
        asan
        memcheck
        ;;
    *) echo "usage: scripts/sanitize.sh [asan | valgrind]" >&2; exit 2 ;;
esac
