#!/usr/bin/env bash
# GStreamer 1.22.0: videoconvert from limited range to RGB, in 8 bits, is some two steps too dark.
#
# Guess: white, luma 235, becomes 255, and each value is right within rounding.
# Seen: white becomes 253 and greys are 2.3 of 255 too dark on average, 3.2 at most, whichever the
# matrix, the format of 8 bits, and the settings of dithering. Luma of 10 bits comes out right within
# 1, and full range exactly. A grey that goes to I420 and back twice loses 5 steps.
#
# A comparison in RGB of frames that passed videoconvert and others that did not measures that.
# Needs GStreamer's tools of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cat > "$dir/greys.py" <<'PYTHON'
import struct
import subprocess

WIDTH, HEIGHT = 256, 2


def greens(form, chain, colorimetry):
    """The green of each grey from 0 to 255 (in 10 bits: times 4)."""
    code, depth = ("<%dH", 4) if "10" in form else ("<%dB", 1)
    planes = [i * depth for i in range(256)] * HEIGHT + [128 * depth] * (WIDTH * HEIGHT // 2)
    with open("in.raw", "wb") as file:
        file.write(struct.pack(code % len(planes), *planes))
    subprocess.run(
        f"timeout 20 gst-launch-1.0 -q filesrc location=in.raw blocksize=100000 ! rawvideoparse format={form}"
        f" width={WIDTH} height={HEIGHT} ! capssetter replace=false caps=video/x-raw,colorimetry={colorimetry}"
        f" ! {chain} ! video/x-raw,format=RGB ! filesink location=out.raw",
        shell=True, check=True)
    return open("out.raw", "rb").read()[1 : 3 * WIDTH : 3]


def tell(name, found, right):
    errors = [f - r for f, r in zip(found, right)][16:236]
    print(f"{name}: white {found[235]}, mean {sum(errors) / len(errors):.1f}, at most {max(map(abs, errors)):.1f}")


limited = [min(max((i - 16) * 255 / 219, 0), 255) for i in range(256)]
tell("I420, bt601", greens("i420", "videoconvert", "bt601"), limited)
tell("I420, bt709", greens("i420", "videoconvert dither=none", "bt709"), limited)
tell("NV12, bt709", greens("nv12", "videoconvert", "bt709"), limited)
tell("I420_10LE, bt709", greens("i420-10le", "videoconvert", "bt709"), limited)
tell("I420, full range", greens("i420", "videoconvert", "1:3:5:1"), range(256))
there = "videoconvert ! video/x-raw,format=RGB ! videoconvert ! video/x-raw,format=I420,colorimetry=bt709"
tell("I420 to RGB, to I420, to RGB", greens("i420", f"{there} ! videoconvert", "bt709"), limited)
PYTHON
cd "$dir"
python3 greys.py | tee found
diff found - <<'END'
I420, bt601: white 253, mean -2.3, at most 3.2
I420, bt709: white 253, mean -2.3, at most 3.2
NV12, bt709: white 253, mean -2.3, at most 3.2
I420_10LE, bt709: white 255, mean -0.5, at most 1.0
I420, full range: white 235, mean 0.0, at most 0.0
I420 to RGB, to I420, to RGB: white 250, mean -5.1, at most 6.7
END
