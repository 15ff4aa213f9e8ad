#!/usr/bin/env bash
# Writes tests/onnx anew: graphs, and their results by ONNX Runtime. Not part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/../.."
env=${ENV:-$(mktemp -d)}
[ -x "$env/bin/python" ] || python3 -m venv "$env"
"$env/bin/pip" install --quiet numpy==2.4.6 onnx==1.22.0 onnxruntime==1.32.0
rm -f tests/onnx/*.onnx tests/onnx/*.safetensors
"$env/bin/python" tests/reference/onnx_graphs.py tests/onnx
