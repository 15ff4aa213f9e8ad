#!/usr/bin/env bash
# GStreamer 1.22.0, Matroska: the demultiplexer counts time from another beginning for the first
# packets than for the rest, and the multiplexer quotes titles.
#
# Guess: matroskademux sends one segment, so that the running time of a packet is its time in the
# file (or that less a constant), and `matroskademux ! matroskamux` keeps the file's title.
# Seen: in a file whose first packet is of the video, at 7 ms, and whose sound begins at 0 or before, the
# segment begins at 7 ms (time 0) for the first packets of the video, and at 0 (time 0) for
# all others: the first frame is shown 7 ms early, the rest is not. The title `A test` is written as
# `"A\ test"`, with the quotes and the backslash of GStreamer's serialisation; mp4mux keeps it.
#
# So `sr video` takes the times of packets from Matroska files as they are.
# Needs ffmpeg and GStreamer of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
gst-inspect-1.0 --version | head -1
ffmpeg -v error -f lavfi -i testsrc2=size=160x90:rate=25:duration=3 -f lavfi -i sine=duration=3 \
    -metadata title="A test" -c:v libx264 -bf 3 -c:a libopus in.mkv
# Segments of the pad of the video: start and time.
gst-launch-1.0 -v filesrc location=in.mkv ! matroskademux name=d d.video_0 ! fakesink silent=false \
    | grep -o 'GstEventSegment.*start=(guint64)[0-9]*, stop=(guint64)[0-9]*, time=(guint64)[0-9]*' \
    | sed 's/.*start=(guint64)\([0-9]*\).*time=(guint64)\([0-9]*\)/start \1, time \2/' | tee segments
diff segments - <<'END'
start 7000000, time 0
start 0, time 0
END
for muxer in matroskamux:mkv mp4mux:mp4; do
    gst-launch-1.0 -q filesrc location=in.mkv ! matroskademux ! h264parse ! "${muxer%:*}" \
        ! filesink location="out.${muxer#*:}"
    ffprobe -v error -show_entries format_tags=title -of default=nokey=1:noprint_wrappers=1 "out.${muxer#*:}"
done | tee titles
diff titles - <<'END'
"A\ test"
A test
END
