#!/usr/bin/env bash
# GStreamer 1.22.0: videoconvert does not convert the range if the range alone differs.
#
# Guess: from bt709 (limited range) to 1:3:5:1 (the same, but full range) black 16 becomes 0, and
# white 235 becomes 255.
# Seen: the caps change and the pixels do not: 16 and 235 under caps that say full range. If the
# matrix differs, too, the range is converted (white to 253, as in videoconvert-white.sh), and it is
# converted through RGB.
#
# Needs GStreamer's tools and plugins-bad of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
# capssetter has the source take nothing of what is asked for downstream.
luma() {
    python3 -c "import sys; sys.stdout.buffer.write(bytes([$1] * 4096 + [128] * 2048))" > in.raw
    # shellcheck disable=SC2086
    timeout 20 gst-launch-1.0 -v filesrc location=in.raw ! rawvideoparse format=i420 width=64 height=64 \
        ! capssetter replace=false caps="video/x-raw,colorimetry=(string)$2" $4 \
        ! videoconvert ! "video/x-raw,format=I420,colorimetry=(string)$3" ! filesink location=out.raw > log
    grep -q "filesink0.GstPad:sink: caps = .*colorimetry=(string)$3" log
    od -An -tu1 -N1 out.raw | tr -d ' '
}
rgb="! videoconvert ! video/x-raw,format=RGB"
{
    echo "bt709 to 1:3:5:1: $(luma 16 bt709 1:3:5:1 "") $(luma 235 bt709 1:3:5:1 "")"
    echo "1:3:5:1 to bt709: $(luma 0 1:3:5:1 bt709 "") $(luma 255 1:3:5:1 bt709 "")"
    echo "bt601 to 1:3:5:1: $(luma 16 bt601 1:3:5:1 "") $(luma 235 bt601 1:3:5:1 "")"
    echo "bt709 to RGB to 1:3:5:1: $(luma 16 bt709 1:3:5:1 "$rgb") $(luma 235 bt709 1:3:5:1 "$rgb")"
} | tee found
diff found - <<'END'
bt709 to 1:3:5:1: 16 235
1:3:5:1 to bt709: 0 255
bt601 to 1:3:5:1: 0 253
bt709 to RGB to 1:3:5:1: 0 252
END
