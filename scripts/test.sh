#!/usr/bin/env bash
# Runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
scripts/setup.sh
cargo test --workspace

# The NEON kernels, where the target is there: compiled, and run where a linker
# and an emulator are there too.
target=aarch64-unknown-linux-gnu
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    echo "skipped: NEON, the Rust target $target is not installed"
elif command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null; then
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu'
    cargo test --package srfilter --lib --target "$target" -- ops:: engine::plan
else
    cargo check --package srfilter --lib --target "$target"
    echo "skipped: running the NEON kernels, no aarch64-linux-gnu-gcc and qemu-aarch64"
fi
