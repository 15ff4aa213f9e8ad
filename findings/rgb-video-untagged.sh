#!/usr/bin/env bash
# av 18.1.0 (PyAV) and opencv 5.0.0.93 write RGB as BT.601 and do not say so; GStreamer 1.22.0 reads it
# as BT.709.
#
# Guess: RGB frames written to a file of 1280x720 by PyAV or OpenCV come back in about the same
# colours from GStreamer: HD is BT.709 by default, or the file states the matrix.
# Seen: they are converted by BT.601 at this size, too, and the file leaves the matrix open. PyAV and
# OpenCV read it back by BT.601, and GStreamer takes it for BT.709, as all HD that leaves it open:
# (200, 40, 60) becomes (212, 54, 58). With caps that say bt601 it is right.
#
# Needs GStreamer's tools, plugins-good, -bad and libav of Debian 12 (apt), Python 3.11 with venv and the
# network for pip; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 \
    opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$dir"
cat > write.py <<'END'
import av
import cv2
import numpy as np

picture = np.full((720, 1280, 3), (200, 40, 60), np.uint8)
with av.open("pyav.mp4", "w") as out:
    stream = out.add_stream("libx264", 25, width=1280, height=720, pix_fmt="yuv420p", options={"crf": "1"})
    for _ in range(3):
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    out.mux(stream.encode())
writer = cv2.VideoWriter("opencv.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 25, (1280, 720))
for _ in range(3):
    writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
writer.release()
END
venv/bin/python write.py 2> /dev/null
cat > about.py <<'END'
import sys

import av
import cv2
import numpy as np


def near(pixel):
    return "right" if np.abs(np.array(pixel, int) - (200, 40, 60)).max() <= 4 else "wrong"


path = sys.argv[1]
with av.open(path) as file:
    frame = next(file.decode(video=0))
# 2 is "unspecified".
print(path, "states no matrix;" if frame.colorspace == 2 else "states the matrix;", end=" ")
print("PyAV", near(frame.to_ndarray(format="rgb24")[9, 9]), end=", ")
print("OpenCV", near(cv2.VideoCapture(path).read()[1][9, 9, ::-1]), end=", ")
END
play() {
    # shellcheck disable=SC2086
    timeout 60 gst-launch-1.0 -q filesrc location="$1" ! decodebin $2 ! videoconvert ! video/x-raw,format=RGB \
        ! filesink location=rgb
    # Within 4 of what was written.
    python3 -c "
found = list(open('rgb', 'rb').read(3))
print('right' if all(abs(a - b) <= 4 for a, b in zip(found, (200, 40, 60))) else found)"
}
said="! capssetter replace=false caps=video/x-raw,colorimetry=bt601"
for name in pyav opencv; do
    venv/bin/python about.py $name.mp4 2> /dev/null
    echo "GStreamer $(play $name.mp4 ""), as bt601 $(play $name.mp4 "$said")"
done | tee found
diff found - <<'END'
pyav.mp4 states no matrix; PyAV right, OpenCV right, GStreamer [212, 54, 58], as bt601 right
opencv.mp4 states no matrix; PyAV right, OpenCV right, GStreamer [210, 54, 58], as bt601 right
END
