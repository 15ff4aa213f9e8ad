#!/usr/bin/env bash
# torch 2.15.0 (onnxscript 0.7.2): the export of an antialiased resizing to ONNX loses its factor.
#
# Guess: F.interpolate(scale_factor=...) exports to a graph with the same result, with
# antialias=True as without.
# Seen: without antialias the factor is in the graph and the results agree. With it, the graph
# holds the output's size instead, and ONNX Runtime scales by the ratio of the sizes: 16 by 1.3
# is 20, and 20 / 16 is not 1.3. Results differ by up to 0.6 of full scale; where size times factor is
# whole they agree.
#
# Needs Python 3.11 with venv, the network for pip and 6 GB of disk; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 onnxscript==0.7.2 onnx==1.22.0 \
    onnxruntime==1.32.0 numpy==2.4.6
cat > "$dir/look.py" <<'END'
import sys

import numpy as np
import onnx
import onnxruntime
import torch


class Resize(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.settings = settings

    def forward(self, x):
        return torch.nn.functional.interpolate(x, mode="bicubic", **self.settings)


x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
for factor in (2, 1.3, 0.7):
    for antialias in (False, True):
        model = Resize(scale_factor=factor, antialias=antialias).eval()
        path = sys.argv[1]
        torch.onnx.export(model, (x,), path, dynamo=True, opset_version=18, verbose=False)
        resize = next(node for node in onnx.load(path).graph.node if node.op_type == "Resize")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        y = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        found = "factor" if len(resize.input) == 3 else "size"
        off = np.abs(model(x).numpy() - y).max()
        apart = f"off by {off:.1f}" if off > 1e-4 else "the same"
        print(f"x{factor}, antialias {antialias}: by {found}, {apart}")
END
"$dir/venv/bin/python" "$dir/look.py" "$dir/model.onnx" 2> /dev/null | grep antialias | tee "$dir/found"
diff "$dir/found" - <<'END'
x2, antialias False: by factor, the same
x2, antialias True: by size, the same
x1.3, antialias False: by factor, the same
x1.3, antialias True: by size, off by 0.6
x0.7, antialias False: by factor, the same
x0.7, antialias True: by size, off by 0.1
END
