#!/usr/bin/env bash
# pillow 13.0.0, opencv 5.0.0.93, FFmpeg's swscale (av 18.1.0) and scikit-image 0.26.0: four bicubics.
#
# Guess: there are two kernels, a = -0.5 and a = -0.75 (OpenCV), and everyone else has the former.
# Seen, of a bright line enlarged by 2: Pillow has -0.5, OpenCV -0.75, swscale -0.6. scikit-image's
# order=3 ("Bi-cubic" in its text) is a cubic B-spline through the pixels, whose lobes never end;
# and as `clip` is on, whatever leaves the picture's own range is cut: no negative lobes.
#
# PSNR "against bicubic" depends on whose it is; srfilter's and Matlab's is -0.5.
# Needs Python 3.11 with venv and the network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 \
    opencv-python-headless==5.0.0.93 av==18.1.0 scikit-image==0.26.0 numpy==2.4.6
cat > "$dir/look.py" <<'END'
import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation
from PIL import Image
from skimage.transform import resize

line = np.full((32, 32), 50, np.uint8)
line[:, 16] = 250
frame = av.VideoFrame.from_ndarray(line, format="gray")
for name, y in (
    ("Pillow", Image.fromarray(line).resize((64, 64), Image.Resampling.BICUBIC)),
    ("OpenCV", cv2.resize(line, (64, 64), interpolation=cv2.INTER_CUBIC)),
    ("swscale", frame.reformat(width=64, height=64, interpolation=Interpolation.BICUBIC).to_ndarray()),
    ("scikit-image", resize(line, (64, 64), order=3, preserve_range=True)),
    ("scikit-image, clip=False", resize(line, (64, 64), order=3, preserve_range=True, clip=False)),
):
    found = np.asarray(y, dtype=float)[32, 27:33] - 50
    print(f"{name}:", *(f"{v:+.0f}" for v in found))
END
"$dir/venv/bin/python" "$dir/look.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
Pillow: +0 +0 -5 -14 +45 +173
OpenCV: +0 +0 -7 -21 +52 +176
swscale: +0 +0 -6 -17 +48 +174
scikit-image: +4 +7 +0 +0 +54 +176
scikit-image, clip=False: +4 +7 -14 -25 +54 +176
END
