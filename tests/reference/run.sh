#!/usr/bin/env bash
# Writes anew, not part of `make test`:
#   tests/onnx: graphs, and their results by ONNX Runtime;
#   tests/ncnn: networks, and their results by ncnn;
#   tests/golden: the vectors of networks that spandrel, resselt and super-image hold.
set -euo pipefail
cd "$(dirname "$0")/../.."
env=${ENV:-$(mktemp -d)}
[ -x "$env/bin/python" ] || python3 -m venv "$env"
"$env/bin/pip" install --quiet numpy==2.4.6 onnx==1.22.0 onnxruntime==1.32.0
rm -f tests/onnx/*
"$env/bin/python" tests/reference/onnx_graphs.py tests/onnx
"$env/bin/pip" install --quiet ncnn==1.0.20261020 pillow==13.0.0
rm -f tests/ncnn/*
"$env/bin/python" tests/reference/ncnn_graphs.py tests/ncnn
"$env/bin/pip" install --quiet torch==2.15.0 torchvision==0.29.2 spandrel==0.4.2 huggingface_hub==2.4.0
"$env/bin/pip" install --quiet --no-deps resselt==1.4.1 super-image==0.2.0
"$env/bin/python" tests/reference/networks.py tests/golden
