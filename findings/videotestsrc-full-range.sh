#!/usr/bin/env bash
# GStreamer 1.22.0: videotestsrc states full range and paints limited range.
#
# Guess: with caps of full range (1:4:7:1) the white of videotestsrc has luma 255 and its black 0.
# Seen: 235 and 16, as in limited range, under caps that say full range; in RGB they are 235 and 16.
# (That white of limited range is 253 in RGB is videoconvert's doing: videoconvert-white.sh.)
#
# Tests of full range need frames of their own. Needs GStreamer's tools of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
first() {
    timeout 20 gst-launch-1.0 -q videotestsrc num-buffers=1 pattern="$1" \
        ! video/x-raw,format=I420,width=64,height=64,colorimetry="$2" ! videoconvert \
        ! video/x-raw,format="$3" ! filesink location="$dir/out"
    od -An -tu1 -N1 "$dir/out" | tr -d ' '
}
for range in 2:4:7:1 1:4:7:1; do
    for pattern in black white; do
        echo "$range $pattern: luma $(first $pattern $range I420), in RGB $(first $pattern $range RGB)"
    done
done | tee "$dir/found"
diff "$dir/found" - <<'END'
2:4:7:1 black: luma 16, in RGB 0
2:4:7:1 white: luma 235, in RGB 253
1:4:7:1 black: luma 16, in RGB 16
1:4:7:1 white: luma 235, in RGB 235
END
