#!/usr/bin/env bash
# scikit-image 0.26.0: one negative value in the reference adds 6 dB to the PSNR of float pictures.
#
# Guess: the range is that of the type ("estimated from the image data-type"): 1 for floats, whatever
# the values.
# Seen: peak_signal_noise_ratio takes 1 if the reference has no negative value and 2 (from -1 to 1) if
# it has one. A value of -1e-6, as bicubic interpolation leaves, raises 33.20 dB to 39.22 dB; in the
# other picture it changes nothing. With data_range=1 it is 33.20 dB both times.
# structural_similarity refuses floats without data_range.
#
# Needs Python 3.11 with venv and the network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.26.0 numpy==2.4.6
cat > "$dir/look.py" <<'END'
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

rng = np.random.default_rng(0)
picture = rng.random((64, 64)).astype(np.float32)
picture[0, 0] = 0
noisy = np.clip(picture + rng.normal(0, 0.022, picture.shape), 0, 1).astype(np.float32)
below = picture.copy()
below[0, 0] = -1e-6
for name, pair, settings in (
    ("as it is", (picture, noisy), {}),
    ("negative in the reference", (below, noisy), {}),
    ("negative in the other", (noisy, below), {}),
    ("negative in the reference, data_range=1", (below, noisy), {"data_range": 1}),
):
    print(f"{name}: {peak_signal_noise_ratio(*pair, **settings):.2f} dB")
try:
    print("SSIM", structural_similarity(picture, noisy))
except ValueError:
    print("SSIM refuses")
END
"$dir/venv/bin/python" "$dir/look.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
as it is: 33.20 dB
negative in the reference: 39.22 dB
negative in the other: 33.20 dB
negative in the reference, data_range=1: 33.20 dB
SSIM refuses
END
