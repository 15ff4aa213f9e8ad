#!/usr/bin/env bash
# onnx 1.22.0 and onnxruntime 1.32.0: a Conv with both `auto_pad` and `pads` is valid to one and
# refused by the other.
#
# The operator's text says that the two "cannot be used simultaneously".
# Guess: onnx's checker, with `full_check`, refuses such a node as well.
# Seen: the checker passes it; ONNX Runtime does not load the model. With one of the two alone both
# take it.
#
# srfilter reads such a node, by `auto_pad`. Needs Python 3.11 with venv and the
# network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.22.0 onnxruntime==1.32.0 \
    numpy==2.4.6
cat > "$dir/look.py" <<'END'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

for settings in ({"pads": [0] * 4}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_UPPER", "pads": [0] * 4}):
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], **settings)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "h", "w"])
    weights = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph([node], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        runtime = "loads"
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        runtime = "refuses"
    print("+".join(sorted(settings)), "checker passes, runtime", runtime)
END
"$dir/venv/bin/python" "$dir/look.py" 2>/dev/null | tee "$dir/found"
diff "$dir/found" - <<'END'
pads checker passes, runtime loads
auto_pad checker passes, runtime loads
auto_pad+pads checker passes, runtime refuses
END
