#!/usr/bin/env bash
# OpenCV 4.13 and later (with FFmpeg 8): VideoCapture converts primaries and transfer, and clips.
#
# Guess: frames of tagged video are Y'CbCr to RGB by the tagged matrix and no more, as those of PyAV and
# of OpenCV's own earlier versions (which took BT.601 for all); the caller, who knows the tags, does the rest.
# Seen: 4.12 takes BT.601 whatever the tag. 4.13 and 5.0 take the tagged matrix and convert to BT.709's
# primaries and transfer on top, in 8 bits: red of 173 in BT.2020 becomes 214, of 173 in PQ 255, and 179 in
# Display P3 207. PyAV 18.1, with the same swscale 9, has the matrix alone. Nothing tells a caller which of
# the three it got: a clip read, filtered and encoded with the tags that it came with changes its colours.
#
# Needs Python 3 with venv; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q install av==18.1.0 numpy==2.4.6
for version in 4.12.0.88 4.13.0.92 5.0.0.93; do
    "$dir/venv/bin/pip" -q install --no-deps --target "$dir/$version" "opencv-python-headless==$version"
done
cd "$dir"
cat > clips.py <<'END'
import av

# Name, matrix, primaries, transfer by the numbers of H.273.
CLIPS = (("BT.709", 1, 1, 1), ("BT.2020", 9, 9, 14), ("BT.2020, PQ", 9, 9, 16), ("Display P3", 1, 12, 1))
for name, matrix, primaries, transfer in CLIPS:
    with av.open(f"{name}.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries = matrix, primaries
        context.color_trc, context.color_range = transfer, 1
        frame = av.VideoFrame(128, 128, "yuv420p")
        for plane, level in zip(frame.planes, (90, 110, 180)):
            plane.update(bytes([level]) * (plane.line_size * plane.height))
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(f"{name}.mp4") as file:
        frame = next(file.decode(video=0))
        print(f"PyAV {av.__version__}, {name}:", *frame.to_ndarray(format="rgb24")[64, 64])
END
cat > capture.py <<'END'
import cv2

for name in ("BT.709", "BT.2020", "BT.2020, PQ", "Display P3"):
    there, frame = cv2.VideoCapture(f"{name}.mp4").read()
    print(f"OpenCV {cv2.__version__}, {name}:", *frame[64, 64][::-1])
END
{
    venv/bin/python clips.py 2>clips.log || { cat clips.log >&2; exit 1; }
    for version in 4.12.0.88 4.13.0.92 5.0.0.93; do
        PYTHONPATH="$dir/$version" venv/bin/python capture.py
    done
} | tee found
diff found - <<'END'
PyAV 18.1.0, BT.709: 179 61 47
PyAV 18.1.0, BT.2020: 173 55 47
PyAV 18.1.0, BT.2020, PQ: 173 55 47
PyAV 18.1.0, Display P3: 179 61 47
OpenCV 4.12.0, BT.709: 168 50 49
OpenCV 4.12.0, BT.2020: 168 50 49
OpenCV 4.12.0, BT.2020, PQ: 168 50 49
OpenCV 4.12.0, Display P3: 168 50 49
OpenCV 4.13.0, BT.709: 179 61 47
OpenCV 4.13.0, BT.2020: 214 12 47
OpenCV 4.13.0, BT.2020, PQ: 255 71 52
OpenCV 4.13.0, Display P3: 207 61 33
OpenCV 5.0.0, BT.709: 179 61 47
OpenCV 5.0.0, BT.2020: 214 12 47
OpenCV 5.0.0, BT.2020, PQ: 255 71 52
OpenCV 5.0.0, Display P3: 207 61 33
END
