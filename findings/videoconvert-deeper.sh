#!/usr/bin/env bash
# GStreamer 1.22.0: videoconvert to more bits makes limited range brighter than white.
#
# Guess: from 8 to 10 bits, limited range is multiplied by 4, as BT.601 and BT.709 define it: black
# 16 becomes 64, white 235 becomes 940.
# Seen: high bits are repeated as low bits, as if the range were full: white becomes 943 and 944
# (dithered), whiter than white, and black 64 and 65; dither=none gives 943 and 64. Back in 8 bits, where
# the low bits are cut off, white is 235 and 236: the way there and back changes an eighth of
# all values, which dither=none in the first step prevents.
#
# Needs GStreamer's tools of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
for pattern in black white; do
    for dither in bayer none; do
        timeout 20 gst-launch-1.0 -q videotestsrc num-buffers=1 pattern=$pattern \
            ! video/x-raw,format=I420,width=64,height=64,colorimetry=bt709 ! videoconvert dither=$dither \
            ! video/x-raw,format=I420_10LE,colorimetry=bt709 ! filesink location=out.raw
        python3 -c "
import struct
luma = struct.unpack('<4096H', open('out.raw', 'rb').read()[:8192])
print('$pattern, dither=$dither:', *sorted(set(luma)))"
    done
done > found
# All values of luma, there and back.
python3 -c "import sys; sys.stdout.buffer.write(bytes(range(256)) * 16 + bytes([128] * 2048))" > in.raw
for dither in bayer none; do
    timeout 20 gst-launch-1.0 -q filesrc location=in.raw ! rawvideoparse format=i420 width=256 height=16 \
        ! videoconvert dither=$dither ! video/x-raw,format=I420_10LE ! videoconvert \
        ! video/x-raw,format=I420 ! filesink location=out.raw
    python3 -c "
luma = open('out.raw', 'rb').read()[:4096]
changed = sum(v != i % 256 for i, v in enumerate(luma))
print('there and back, dither=$dither: %.2f changed' % (changed / 4096))"
done >> found
cat found
diff found - <<'END'
black, dither=bayer: 64 65
black, dither=none: 64
white, dither=bayer: 943 944
white, dither=none: 943
there and back, dither=bayer: 0.12 changed
there and back, dither=none: 0.00 changed
END
