#!/usr/bin/env bash
# Compares ONNX Runtime and OpenVINO, on what `sr export` writes, with `sr upscale`.
# benches/onnx/exported.sh [MODEL...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
PATH=$PATH:$HOME/.cargo/bin
venv=${CARGO_TARGET_DIR:-$root/target}/onnx-bench/exported-venv
if [ ! -e "$venv/complete" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.22.0 \
        onnxruntime==1.32.0 openvino==2026.4.1 opencv-python-headless==5.0.0.93
    touch "$venv/complete"
fi
(cd "$root" && cargo build --release --bin sr)
exec "$venv/bin/python" "$here/exported.py" "${CARGO_TARGET_DIR:-$root/target}/release/sr" "$@"
