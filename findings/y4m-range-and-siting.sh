#!/usr/bin/env bash
# GStreamer 1.22.0: Y4M loses range and chroma siting, in writing and in reading.
#
# Guess: y4menc writes what the caps say of the range (XCOLORRANGE) and of the chroma's site
# (C420jpeg, C420mpeg2), or refuses what it cannot write; y4mdec reads both.
# Seen: y4menc writes C420 for either, and nothing of the range. y4mdec passes over both and calls
# everything bt601 (limited range) with chroma sited as in JPEG: luma 235 of full range becomes 253.
#
# Needs GStreamer's tools, plugins-good and -bad of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
frame() { python3 -c "import sys; sys.stdout.buffer.write(bytes([235] * 4096 + [128] * 2048))"; }
frame > full.yuv
{
    for site in jpeg mpeg2; do
        timeout 20 gst-launch-1.0 -q filesrc location=full.yuv \
            ! rawvideoparse format=i420 width=64 height=64 framerate=25/1 \
            ! capssetter replace=false caps="video/x-raw,colorimetry=(string)1:4:5:1,chroma-site=(string)$site" \
            ! y4menc ! filesink location=out.y4m
        echo "written for $site: $(head -1 out.y4m | tr -d '\0')"
    done
    for header in "C420jpeg XCOLORRANGE=LIMITED" "C420mpeg2 XCOLORRANGE=FULL"; do
        { printf 'YUV4MPEG2 W64 H64 F25:1 Ip A1:1 %s\nFRAME\n' "$header"; frame; } > in.y4m
        timeout 20 gst-launch-1.0 -v filesrc location=in.y4m ! y4mdec ! videoconvert \
            ! video/x-raw,format=RGB ! filesink location=rgb > log
        caps=$(grep -m1 -i 'y4mdec.*src: caps' log)
        site=$(grep -o 'chroma-site=(string)[a-z0-9]*' <<< "$caps")
        color=$(grep -o 'colorimetry=(string)[a-z0-9:]*' <<< "$caps")
        echo "$header: ${color#*)}, ${site#*)}, $(od -An -tu1 -N1 rgb | tr -d ' ')"
    done
} | tee found
diff found - <<'END'
written for jpeg: YUV4MPEG2 C420 W64 H64 Ip F25:1 A1:1
written for mpeg2: YUV4MPEG2 C420 W64 H64 Ip F25:1 A1:1
C420jpeg XCOLORRANGE=LIMITED: bt601, jpeg, 253
C420mpeg2 XCOLORRANGE=FULL: bt601, jpeg, 253
END
