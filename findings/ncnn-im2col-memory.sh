#!/usr/bin/env bash
# ncnn 1.0.20261020 (CPU): one convolution with a large kernel takes its kernel's area times its input
# in memory.
#
# Guess: for a 9x9 convolution of a whole frame ncnn needs input, output and a buffer of a few rows
# or tiles.
# Seen: the whole frame is laid out once for each tap (im2col): for 64 channels of 320x180, 14 MiB, the
# peak grows by some 1150 MiB, 81 times as much. At 1280x720, where the last layer of an SRResNet for x4
# runs on 320x180, that makes 18 GiB. With use_sgemm_convolution=False it grows by 17 MiB, and the
# result is the same within rounding. 3x3 convolutions are not concerned (winograd).
#
# Needs 2 GiB of memory, Python 3.11 with venv and the network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ncnn==1.0.20261020 numpy==2.4.6
cat > "$dir/peak.py" <<'END'
import resource
import sys

import ncnn
import numpy as np

WIDTH, HEIGHT, CHANNELS = 320, 180, 64
sgemm, kernel = (int(argument) for argument in sys.argv[1:])
count = CHANNELS * 3 * kernel**2
rng = np.random.default_rng(0)
with open("net.param", "w") as file:
    file.write("7767517\n2 2\nInput x 0 1 x\n"
               f"Convolution c 1 1 x y 0=3 1={kernel} 4={kernel // 2} 5=1 6={count}\n")
with open("net.bin", "wb") as file:
    file.write(bytes(4) + rng.normal(0, 0.02, count).astype(np.float32).tobytes() + bytes(12))
net = ncnn.Net()
net.opt.use_sgemm_convolution = bool(sgemm)
assert net.load_param("net.param") == 0 and net.load_model("net.bin") == 0
picture = rng.random((CHANNELS, HEIGHT, WIDTH), np.float32)
extractor = net.create_extractor()
extractor.input("x", ncnn.Mat(picture).clone())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = np.array(extractor.extract("y")[1])
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
assert result.shape == (3, HEIGHT, WIDTH)
print(f"{kernel}x{kernel}, sgemm {sgemm}:", "over 75 times" if grown > 75 * picture.nbytes else
      "less than 8 times" if grown < 8 * picture.nbytes else grown / picture.nbytes, "the input")
END
cd "$dir"
for arguments in "1 9" "0 9" "1 3"; do
    # shellcheck disable=SC2086
    venv/bin/python peak.py $arguments
done | tee found
diff found - <<'END'
9x9, sgemm 1: over 75 times the input
9x9, sgemm 0: less than 8 times the input
3x3, sgemm 1: less than 8 times the input
END
