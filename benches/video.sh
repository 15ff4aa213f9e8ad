#!/usr/bin/env bash
# `sr video` next to the bare pipeline of the same elements and settings, in turns, the best of three:
# 40 seconds of 640x360 with sound, by espcn-video and x264. The pipeline leaves out the sound.
# Needs `make build` and gstreamer1.0-plugins-ugly.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/release
export GST_PLUGIN_PATH=$PWD/$bin
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-launch-1.0 -q videotestsrc num-buffers=1000 pattern=zone-plate kx2=20 ky2=20 kt=3 \
    ! video/x-raw,format=I420,width=640,height=360,framerate=25/1 ! x264enc key-int-max=250 ! h264parse ! mux. \
    audiotestsrc num-buffers=2000 samplesperbuffer=960 ! audio/x-raw,rate=48000 ! opusenc ! mux. \
    matroskamux name=mux ! filesink location="$dir/in.mkv"
# As cli/src/video/encoder.rs has it.
level=
grep -q avx512f /proc/cpuinfo && level=option-string=asm=avx2
pipeline() {
    # shellcheck disable=SC2086
    gst-launch-1.0 -q filesrc location="$dir/in.mkv" ! decodebin ! videoconvert \
        ! srfilter model=espcn-video scale=2 precision=int8 qos=false ! videoconvert \
        ! x264enc pass=qual quantizer=18 speed-preset=medium bframes=3 b-adapt=true ref=3 \
        key-int-max=250 threads=4 vbv-buf-capacity=0 $level ! h264parse ! matroskamux \
        ! filesink location="$dir/bare.mkv"
}
upscale() { "$bin/sr" video "$dir/in.mkv" "$dir/out.mkv" --force > /dev/null; }
milliseconds() {
    local start end
    start=$(date +%s%3N)
    "$1"
    end=$(date +%s%3N)
    echo $((end - start))
}
best=(999999999 999999999)
for _ in 1 2 3; do
    for which in 0 1; do
        name=pipeline
        [ "$which" = 1 ] && name=upscale
        took=$(milliseconds "$name")
        ((took < best[which])) && best[which]=$took
    done
done
awk "BEGIN { printf \"pipeline %.1f s, sr video %.1f s: %.2f of its time\\n\", ${best[0]} / 1000, ${best[1]} / 1000, ${best[1]} / ${best[0]} }"
