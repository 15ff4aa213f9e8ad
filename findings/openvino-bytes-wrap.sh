#!/usr/bin/env bash
# openvino 2026.4.1 (CPU): an output asked for in bytes saturates if the model's size is free, and wraps
# if it is fixed.
#
# Guess: PrePostProcessor's `output().tensor().set_element_type(u8)` clamps to 0 and 255, or at
# least does the same to the same model at every size.
# Seen: of a model with a fixed size, 256 becomes 0 and -1 becomes 255: the overshoot at a white edge turns
# black. Reshaped to a free size, the same model gives 255 and 0. Both cut off fractions: 254.9
# becomes 254.
#
# Needs Python 3.11 with venv and the network for pip; outside CI. Seen on a processor with AVX-512.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 \
    openvino-telemetry==2025.2.0 numpy==2.4.6
cat > "$dir/look.py" <<'END'
import numpy as np
import openvino
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

x = np.tile(np.array([-1, 0.6, 254.9, 256, 300], np.float32), (1, 1, 16, 16))
for name, shape in (("fixed", x.shape), ("free", [1, 1, -1, -1])):
    image = ops.parameter(openvino.PartialShape(shape), np.float32)
    kernel = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)[None, None]
    network = ops.convolution(image, ops.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1])
    process = PrePostProcessor(openvino.Model([network], [image]))
    process.output().tensor().set_element_type(openvino.Type.u8)
    compiled = openvino.Core().compile_model(process.build(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    y = compiled(x)[0][0, 0, 8]
    print(f"{name} size:", *(f"{a:g} -> {b}," for a, b in zip(x[0, 0, 8, :5], y)))
END
CI=true "$dir/venv/bin/python" "$dir/look.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
fixed size: -1 -> 255, 0.6 -> 0, 254.9 -> 254, 256 -> 0, 300 -> 44,
free size: -1 -> 0, 0.6 -> 0, 254.9 -> 254, 256 -> 255, 300 -> 255,
END
