#!/usr/bin/env bash
# openvino 2026.4.1: it reads `Resize` of ONNX without `antialias` and `exclude_outside`.
#
# Guess: it computes both (PyTorch's antialiased resizing is exported as the former), or refuses
# the graph, as it does for the coordinate mode `half_pixel_symmetric`.
# Seen: the graph loads and both attributes are ignored. Fine stripes, reduced to a quarter by a cubic
# with antialias=1, are off by 0.63 of full scale; with exclude_outside=1 the edges of an enlarged
# picture are off by 0.03. ONNX Runtime 1.32.0 computes both as onnx's reference does.
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


def compare(name, picture, factor, **settings):
    node = helper.make_node("Resize", ["x", "", "factors"], ["y"], mode="cubic", **settings)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, "h" + n, "w" + n]) for n in "xy"]
    factors = numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), "factors")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [factors])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    reference = ReferenceEvaluator(model).run(None, {"x": picture})[0]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = {"ONNX Runtime": session.run(None, {"x": picture})[0], "OpenVINO": compiled(picture)[0]}
    for runtime, result in results.items():
        print(f"{name}: {runtime} off by {np.abs(result - reference).max():.2f}")


stripes = np.zeros((1, 1, 32, 32), np.float32)
stripes[..., 1::4] = stripes[..., 2::4] = 1
compare("plain", stripes, 2.0)
compare("antialias", stripes, 0.25, antialias=1, cubic_coeff_a=-0.5)
compare("exclude_outside", stripes, 2.0, exclude_outside=1)
END
CI=true "$dir/venv/bin/python" "$dir/look.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
plain: ONNX Runtime off by 0.00
plain: OpenVINO off by 0.00
antialias: ONNX Runtime off by 0.00
antialias: OpenVINO off by 0.63
exclude_outside: ONNX Runtime off by 0.00
exclude_outside: OpenVINO off by 0.03
END
