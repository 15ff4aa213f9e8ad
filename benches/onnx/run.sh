#!/usr/bin/env bash
# Times graphs in ONNX by srfilter and by ONNX Runtime, in one run.
# benches/onnx/run.sh [--rounds N] [--graph NAME,...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
PATH=$PATH:$HOME/.cargo/bin
folder=${CARGO_TARGET_DIR:-$root/target}/onnx-bench
mkdir -p "$folder"
venv=$folder/venv
if [ ! -e "$venv/complete" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.22.0 onnxruntime==1.32.0
    touch "$venv/complete"
fi
build=(cargo build --release --bench onnx --message-format=json-render-diagnostics)
worker=$(cd "$root" && "${build[@]}" |
    sed -n 's/.*"name":"onnx".*"executable":"\([^"]*\)".*/\1/p')
exec "$venv/bin/python" "$here/bench.py" --worker "$worker" --folder "$folder" "$@"
