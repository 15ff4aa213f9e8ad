#!/usr/bin/env bash
# GStreamer 1.22.0: videocrop by an odd number moves the colours of I420 against the luma.
#
# Guess: a crop by an odd number of pixels of a format whose chroma has half the width is refused,
# rounded to an even number, or the chroma is resampled.
# Seen: luma is cut by 1 and chroma by 0 samples (left=1), luma by 3 and chroma by 1 (left=3), and
# nothing is said: colours lie one pixel beside their shapes.
#
# Needs GStreamer's tools and plugins-good of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
# Luma holds its column, U twice its own: column 2n of luma has chroma 2n.
python3 -c "
import sys
sys.stdout.buffer.write(bytes(range(16)) * 16 + bytes(range(0, 16, 2)) * 8 + bytes(64))" > in.raw
for left in 1 2 3; do
    timeout 20 gst-launch-1.0 -q filesrc location=in.raw ! rawvideoparse format=i420 width=16 height=16 \
        ! videocrop left=$left right=$((4 - left)) ! video/x-raw,format=I420,width=12 \
        ! filesink location=out.raw
    python3 -c "
out = open('out.raw', 'rb').read()
print('left=$left: luma', *out[:4], 'chroma', *out[192:194])"
done | tee found
diff found - <<'END'
left=1: luma 1 2 3 4 chroma 0 2
left=2: luma 2 3 4 5 chroma 2 4
left=3: luma 3 4 5 6 chroma 2 4
END
