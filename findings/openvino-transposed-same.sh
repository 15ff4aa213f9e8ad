#!/usr/bin/env bash
# openvino 2026.4.1: a ConvTranspose with SAME_UPPER and a stated size comes out one pixel off.
#
# Guess: of an odd padding, SAME_UPPER leaves the larger half to the end, in a transposed convolution
# as in an ordinary one, and both runtimes agree.
# Seen (kernel 3, stride 2, from 9x9 to 18x18): ONNX Runtime 1.32.0 and onnx's reference pad as
# stated, at the end. OpenVINO gives the result of SAME_LOWER: the picture is one pixel off. Without
# `output_shape`, which states the size that comes out anyway, all agree.
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
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x = np.zeros((1, 1, 9, 9), np.float32)
x[..., 4, 4] = 1
weights = numpy_helper.from_array(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)[None, None], "w")
for pad in ("SAME_UPPER", "SAME_LOWER"):
    for size in ({}, {"output_shape": [18, 18]}):
        node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], auto_pad=pad, strides=[2, 2], **size)
        begin = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 9, 9])
        end = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 18, 18])
        graph = helper.make_graph([node], "g", [begin], [end], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        reference = ReferenceEvaluator(model).run(None, {"x": x})[0]
        lit = [int(y.argmax()) // 18 for y in (reference, session.run(None, {"x": x})[0], compiled(x)[0])]
        print(pad, *size, "row of the dot: reference %d, ONNX Runtime %d, OpenVINO %d" % tuple(lit))
END
CI=true "$dir/venv/bin/python" "$dir/look.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
SAME_UPPER row of the dot: reference 9, ONNX Runtime 9, OpenVINO 9
SAME_UPPER output_shape row of the dot: reference 9, ONNX Runtime 9, OpenVINO 8
SAME_LOWER row of the dot: reference 8, ONNX Runtime 8, OpenVINO 8
SAME_LOWER output_shape row of the dot: reference 8, ONNX Runtime 8, OpenVINO 8
END
