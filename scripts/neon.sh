#!/usr/bin/env bash
# Compiles the NEON kernels if the Rust target for 64-bit Arm is installed and,
# if a linker and an emulator are installed too, upscales an image with them: it
# must equal the result of portable Rust and of this machine, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
target=aarch64-unknown-linux-gnu
folder=${CARGO_TARGET_DIR:-target}
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    echo "skipped: NEON, for want of the Rust target (rustup target add $target)"
    exit
fi
if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    cargo check --package srfilter --lib --target "$target"
    echo "skipped: running NEON, for want of gcc-aarch64-linux-gnu and qemu-user"
    exit
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Without video: GStreamer is not installed for that machine.
cargo build --release --package srfilter-cli --no-default-features --target "$target"
scripts/build.sh --bins
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gst-launch-1.0 -q videotestsrc num-buffers=1 pattern=zone-plate kx2=20 ky2=20 \
    ! video/x-raw,format=RGB,width=97,height=63 ! pngenc ! filesink location="$work/in.png"
# The last two in 8-bit integers, by the dot product.
for model in hypersrcnn srcnn espcn srresnet; do
    scale=2
    [ $model = srresnet ] && scale=4
    "$folder/release/sr" upscale "$work/in.png" "$work/native.png" --force --scale $scale --model $model
    for level in plain neon; do
        SRFILTER_CPU=$level qemu-aarch64 -L /usr/aarch64-linux-gnu \
            "$folder/$target/release/sr" upscale "$work/in.png" "$work/$level.png" --force --scale $scale --model $model
        cmp "$work/native.png" "$work/$level.png"
    done
    echo "NEON: $model makes the same bytes as portable Rust and as this machine"
done
