#!/usr/bin/env bash
# GStreamer 1.22.0: videoscale's default method samples on another grid across than down, and on
# another one for RGB than for I420.
#
# Guess: `bilinear` keeps the picture in place, as catrom and lanczos do: centres of pixels are
# scaled about the edges of the frame, alike in both directions and for every format.
# Seen: for 8 bits in planes (and BGRx), rows are sampled from the first to the last pixel (corners
# are aligned), columns are not. At x4, a line near the left edge of a frame of 64x64 is 0.3 pixels
# of the input too far to the left, one near the right edge as much too far to the right. bilinear2 does
# the same; RGB, YUY2 and formats of 16 bits stay in place, and so do all with catrom or lanczos.
#
# Needs GStreamer's tools of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cat > "$dir/lines.py" <<'PYTHON'
import subprocess
import sys

SIZE, SCALE = 64, 4
FORMATS = {"gray8": 1, "bgrx": 4, "rgb": 3}


def shift(form, method, across, position):
    """How far a bright line moves, in pixels of the input."""
    depth = FORMATS[form]
    lit = [(x if across else y) == position for y in range(SIZE) for x in range(SIZE)]
    with open("in.raw", "wb") as file:
        file.write(bytes(200 * pixel for pixel in lit for _ in range(depth)))
    width = SIZE * SCALE
    subprocess.run(
        f"timeout 20 gst-launch-1.0 -q filesrc location=in.raw blocksize={SIZE * SIZE * depth}"
        f" ! rawvideoparse format={form} width={SIZE} height={SIZE} ! videoscale method={method}"
        f" ! video/x-raw,width={width},height={width} ! filesink location=out.raw",
        shell=True, check=True)
    out = open("out.raw", "rb").read()
    middle = width // 2
    step, start = (depth, middle * width * depth) if across else (width * depth, middle * depth)
    line = [out[start + i * step] for i in range(width)]
    centre = sum(v * (i + 0.5) for i, v in enumerate(line)) / sum(line) / SCALE
    return round(centre - position - 0.5, 1) + 0.0


for form, method in (
    ("gray8", "bilinear"), ("gray8", "bilinear2"), ("bgrx", "bilinear"), ("rgb", "bilinear"), ("gray8", "catrom")
):
    found = [[shift(form, method, across, position) for position in (4, 59)] for across in (True, False)]
    print(form, method, "left and right", *found[0], "top and bottom", *found[1])
PYTHON
cd "$dir"
python3 lines.py | tee found
diff found - <<'END'
gray8 bilinear left and right -0.3 0.3 top and bottom 0.0 0.0
gray8 bilinear2 left and right -0.3 0.3 top and bottom 0.0 0.0
bgrx bilinear left and right -0.3 0.3 top and bottom 0.0 0.0
rgb bilinear left and right 0.0 0.0 top and bottom 0.0 0.0
gray8 catrom left and right 0.0 0.0 top and bottom 0.0 0.0
END
