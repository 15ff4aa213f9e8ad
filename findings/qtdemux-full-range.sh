#!/usr/bin/env bash
# GStreamer 1.22.0: qtdemux reads full range as limited range, against the stream itself.
#
# Guess: an MP4 file whose `colr` box (nclx) says full range, as the H.264 in it does, is decoded in
# full range; mp4mux writes the box and qtdemux reads it.
# Seen: the box is written with the flag and qtdemux leaves the flag out: its caps say bt709, that
# is limited range, and h264parse and the decoder believe the caps rather than the stream. Luma 235 of
# 255 becomes 253. The same stream from Matroska gives 235, and so does MP4 with corrected caps.
#
# Needs GStreamer's tools, plugins-good, -bad, -ugly and libav of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
python3 -c "import sys; sys.stdout.buffer.write(bytes([235] * 4096 + [128] * 2048) * 3)" > full.yuv
full="colorimetry=(string)1:3:5:1"
for muxer in mp4mux matroskamux; do
    timeout 20 gst-launch-1.0 -q filesrc location=full.yuv \
        ! rawvideoparse format=i420 width=64 height=64 framerate=25/1 \
        ! capssetter caps="video/x-raw,$full" replace=false ! x264enc ! h264parse ! $muxer \
        ! filesink location=$muxer
done
play() {
    # shellcheck disable=SC2086
    timeout 20 gst-launch-1.0 -q filesrc location="$1" ! $2 ! h264parse ! avdec_h264 ! videoconvert \
        ! video/x-raw,format=RGB ! filesink location=rgb
    od -An -tu1 -N1 rgb | tr -d ' '
}
{
    python3 -c "
box = open('mp4mux', 'rb').read().split(b'colr')[1]
print('box:', box[:4].decode(), 'full range' if box[10] & 0x80 else 'limited range')"
    echo "Matroska: $(play matroskamux matroskademux)"
    echo "MP4: $(play mp4mux qtdemux)"
    echo "MP4, caps corrected: $(play mp4mux "qtdemux ! capssetter caps=video/x-h264,$full replace=false")"
} | tee found
diff found - <<'END'
box: nclx full range
Matroska: 235
MP4: 253
MP4, caps corrected: 235
END
