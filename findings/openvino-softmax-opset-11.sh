#!/usr/bin/env bash
# openvino 2026.4.1: Softmax of opset 11 and 12 is taken for that of opset 13.
#
# Until opset 12, Softmax flattens the tensor to a matrix at `axis` (1 by default) and normalises over
# all that follows; from opset 13 on it normalises over `axis` alone.
# Guess: OpenVINO tells the two apart by the opset of the graph, as ONNX Runtime 1.32.0 does.
# Seen: it does up to opset 10. In 11 and 12 it normalises a (N, C, H, W) tensor over C alone, so that
# each pixel sums up to 1, not the picture. Over the last axis, as in attention, there is no
# difference.
#
# Needs Python 3.11 with venv and the network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 \
    openvino-telemetry==2025.2.0 onnx==1.22.0 onnxruntime==1.32.0 numpy==2.4.6
cat > "$dir/look.py" <<'END'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

x = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
for opset in (10, 11, 12, 13):
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    sums = [y.sum() for y in (session.run(None, {"x": x})[0], compiled(x)[0])]
    print("opset %d: all sums up to %.0f in ONNX Runtime, %.0f in OpenVINO" % (opset, *sums))
END
CI=true "$dir/venv/bin/python" "$dir/look.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
opset 10: all sums up to 1 in ONNX Runtime, 1 in OpenVINO
opset 11: all sums up to 1 in ONNX Runtime, 16 in OpenVINO
opset 12: all sums up to 1 in ONNX Runtime, 16 in OpenVINO
opset 13: all sums up to 16 in ONNX Runtime, 16 in OpenVINO
END
