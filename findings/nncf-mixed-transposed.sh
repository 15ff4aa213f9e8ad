#!/usr/bin/env bash
# nncf 3.4.0 and openvino 2026.4.1: quantised with the preset MIXED, transposed convolutions run in f32.
#
# NNCF recommends MIXED (activations with a zero point) where they are not from ReLU.
# Guess: on the CPU, transposed convolutions run in 8 bits as ordinary ones do, with either preset.
# Seen (a network of two convolutions with leaky ReLU and a transposed one): with PERFORMANCE all three
# run in 8 bits. With MIXED the model holds the same FakeQuantize nodes, and the transposed
# convolution, the dearest layer of an FSRCNN, runs in f32. After ReLU (no negative values, so no
# zero point) it is in 8 bits with both.
#
# Seen on a processor with AVX-512 VNNI. Needs Python 3.11 with venv and the network for pip; outside CI.
set -euo pipefail
grep -q avx512_vnni /proc/cpuinfo || { echo "skipped: no AVX-512 VNNI here"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 \
    openvino-telemetry==2025.2.0 nncf==3.4.0 numpy==2.4.6
cat > "$dir/look.py" <<'END'
import logging

import nncf
import numpy as np
import openvino
from openvino import opset13 as ops

nncf.set_log_level(logging.ERROR)
rng = np.random.default_rng(0)


def weights(*shape):
    return ops.constant(rng.normal(0, 0.1, shape).astype(np.float32))


def network(activation):
    image = ops.parameter([1, 3, 32, 32], np.float32)
    x = image
    for channels in (3, 16):
        x = activation(ops.convolution(x, weights(16, channels, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]))
    y = ops.convolution_backprop_data(x, weights(16, 3, 4, 4), [2, 2], pads_begin=[1, 1], pads_end=[1, 1])
    return openvino.Model([y], [image])


slope = np.array([0.1], np.float32)
activations = {"leaky ReLU": lambda x: ops.prelu(x, ops.constant(slope)), "ReLU": ops.relu}
for name, activation in activations.items():
    for preset in (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED):
        data = nncf.Dataset([rng.random((1, 3, 32, 32), np.float32)])
        model = nncf.quantize(network(activation), data, preset=preset, target_device=nncf.TargetDevice.CPU)
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        ran = openvino.Core().compile_model(model, "CPU", hint).get_runtime_model().get_ops()
        keys = ("layerType", "runtimePrecision")
        about = [{key: op.get_rt_info()[key].astype(str) for key in keys} for op in ran]
        kinds = {kind: {a["runtimePrecision"] for a in about if a["layerType"] == kind}
                 for kind in ("Convolution", "Deconvolution")}
        found = {kind: "f32" if "f32" in precisions else "8 bits" for kind, precisions in kinds.items()}
        print(name, preset.name, *(f"{kind} {precision}" for kind, precision in found.items()))
END
CI=true "$dir/venv/bin/python" "$dir/look.py" 2> /dev/null | grep Convolution | tee "$dir/found"
diff "$dir/found" - <<'END'
leaky ReLU PERFORMANCE Convolution 8 bits Deconvolution 8 bits
leaky ReLU MIXED Convolution 8 bits Deconvolution f32
ReLU PERFORMANCE Convolution 8 bits Deconvolution 8 bits
ReLU MIXED Convolution 8 bits Deconvolution 8 bits
END
