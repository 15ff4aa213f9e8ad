#!/usr/bin/env bash
# GStreamer 1.22.0: videoscale changes flat frames of more than 8 bits.
#
# Guess: a flat frame of I420_10LE or GRAY16_LE, scaled by any method, keeps its value, as those
# of 8 bits do.
# Seen: 10 bits are widened to 16 by repeating their high bits and dithered back (`dither` is bayer by
# default): a flat 700 becomes 700 and 701, 0.67 steps brighter on average, even by
# nearest-neighbour. With dither=none it is 700. In 16 bits, the default method (bilinear)
# adds one in each direction: 1000 becomes 1002; other methods keep 1000.
#
# Needs GStreamer's tools of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
# The values of luma that a flat frame of 64x64 has at 128x128.
scaled() {
    python3 -c "
import struct, sys
sys.stdout.buffer.write(struct.pack('<H', $2) * (64 * 64 * $3 // 2))" > in.raw
    # shellcheck disable=SC2086
    timeout 20 gst-launch-1.0 -q filesrc location=in.raw blocksize=100000 \
        ! rawvideoparse format="$1" width=64 height=64 ! videoscale $4 \
        ! video/x-raw,width=128,height=128 ! filesink location=out.raw
    python3 -c "
import struct
values = struct.unpack('<16384H', open('out.raw', 'rb').read()[:32768])
print('$1 $4:', *sorted(set(values)), 'mean %+.2f' % (sum(values) / 16384 - $2))"
}
{
    scaled i420-10le 700 3 "method=bilinear"
    scaled i420-10le 700 3 "method=nearest-neighbour"
    scaled i420-10le 700 3 "method=catrom"
    scaled i420-10le 700 3 "method=catrom dither=none"
    scaled gray16-le 1000 2 "method=bilinear"
    scaled gray16-le 1000 2 "method=catrom"
} | tee found
diff found - <<'END'
i420-10le method=bilinear: 700 701 mean +0.70
i420-10le method=nearest-neighbour: 700 701 mean +0.67
i420-10le method=catrom: 700 701 mean +0.67
i420-10le method=catrom dither=none: 700 mean +0.00
gray16-le method=bilinear: 1002 mean +2.00
gray16-le method=catrom: 1000 mean +0.00
END
