#!/usr/bin/env bash
# GStreamer 1.22.0: jpegenc writes frames of limited range as they are, and JPEG has full range only.
#
# Guess: jpegenc converts I420 of limited range (the default of I420) to the full range of JPEG, or
# refuses it.
# Seen: luma is written as it is. Black comes back as 16 and white as 235, by jpegdec and by every
# other reader: a grey picture. Through RGB (which jpegenc converts itself) black is 0 and white 253,
# as videoconvert makes it (videoconvert-white.sh).
#
# Needs GStreamer's tools and plugins-good of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
# The red of the first pixel, through a JPEG of a picture of one colour.
level() {
    # shellcheck disable=SC2086
    timeout 20 gst-launch-1.0 -q videotestsrc num-buffers=1 pattern="$1" \
        ! video/x-raw,format=I420,width=64,height=64,colorimetry=bt601 $2 ! jpegenc quality=100 ! jpegdec \
        ! videoconvert ! video/x-raw,format=RGB ! filesink location="$dir/rgb"
    od -An -tu1 -N1 "$dir/rgb" | tr -d ' '
}
for way in "" "! videoconvert ! video/x-raw,format=RGB"; do
    echo "I420 $way ! jpegenc: black $(level black "$way"), white $(level white "$way")"
done | tee "$dir/found"
diff "$dir/found" - <<'END'
I420  ! jpegenc: black 16, white 235
I420 ! videoconvert ! video/x-raw,format=RGB ! jpegenc: black 0, white 253
END
