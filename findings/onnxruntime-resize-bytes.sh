#!/usr/bin/env bash
# ONNX Runtime 1.32.0: Resize of bytes truncates, unless it is antialiased; cubic bytes load and do not run.
#
# Guess: what linear Resize gives for uint8 is that for float, rounded; with antialias=1, which changes
# nothing when enlarging, the same bytes; cubic for uint8, which the operator allows, clips and rounds.
# Seen: linear x2 of 0, 1, 2, 3 (0.25 and 0.75 between) truncates, so that pictures get 3/8 of a step darker
# on average. With antialias=1 the same model rounds. cubic fails when it runs, not when it loads
# ("Tensor type mismatch"), and with antialias=1 it clips and rounds.
#
# Needs Python 3 with venv; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q install onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$dir/resize.py" <<'END'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

onnxruntime.set_default_logger_severity(4)
TYPES = {np.float32: TensorProto.FLOAT, np.uint8: TensorProto.UINT8}


def resized(samples, dtype, mode, antialias):
    value = lambda name, shape: helper.make_tensor_value_info(name, TYPES[dtype], shape)
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode=mode, antialias=antialias)
    graph = helper.make_graph(
        [node], "resize", [value("x", [1, 1, 1, 4])], [value("y", None)],
        [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 1, 2])],
    )
    opset = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = np.array(samples, dtype).reshape(1, 1, 1, 4)
    try:
        return " ".join(f"{v:g}" for v in session.run(None, {"x": x})[0].ravel())
    except Exception as error:
        return "fails: " + ("Tensor type mismatch" if "Tensor type mismatch" in str(error) else "?")


for mode, samples in ("linear", [0, 1, 2, 3]), ("cubic", [0, 0, 255, 255]):
    for antialias in 0, 1:
        for dtype in TYPES:
            print(mode, f"antialias={antialias}", dtype.__name__ + ":", resized(samples, dtype, mode, antialias))
END
"$dir/venv/bin/python" "$dir/resize.py" 2>/dev/null | tee "$dir/found"
diff "$dir/found" - <<'END'
linear antialias=0 float32: 0 0.25 0.75 1.25 1.75 2.25 2.75 3
linear antialias=0 uint8: 0 0 0 1 1 2 2 3
linear antialias=1 float32: 0 0.25 0.75 1.25 1.75 2.25 2.75 3
linear antialias=1 uint8: 0 0 1 1 2 2 3 3
cubic antialias=0 float32: 0 -8.96484 -26.8945 57.7734 197.227 281.895 263.965 255
cubic antialias=0 uint8: fails: Tensor type mismatch
cubic antialias=1 float32: 0 -8.96484 -26.8945 57.7734 197.227 281.895 263.965 255
cubic antialias=1 uint8: 0 0 0 58 197 255 255 255
END
