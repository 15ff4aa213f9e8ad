#!/usr/bin/env bash
# Clippy over the library as it is without its default features, and with each of them alone;
# and over `sr` without video.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
for features in "" builtin-weights image onnx pytorch; do
    echo "srfilter with features: ${features:-none}"
    cargo clippy --release --package srfilter --lib --no-default-features --features "$features" -- -D warnings
done
echo "srfilter-cli with features: none"
cargo clippy --release --package srfilter-cli --all-targets --no-default-features -- -D warnings
