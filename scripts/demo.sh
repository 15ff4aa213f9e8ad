#!/usr/bin/env bash
# Upscales a synthetic clip in a real pipeline.
set -euo pipefail
cd "$(dirname "$0")/.."
# The messages of gst-launch and the numbers of awk, read below, in English.
export LC_ALL=C
PATH=$PATH:$HOME/.cargo/bin
scripts/setup.sh
built=${CARGO_TARGET_DIR:-target}/release
echo "Building (some minutes the first time)"
scripts/build.sh --quiet --lib
out=target/demo
mkdir -p "$out"
"$built/examples/demo" draw "$out"

export GST_PLUGIN_PATH=$(realpath "$built")${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
source="filesrc location=$out/low.i420
    ! rawvideoparse format=i420 width=320 height=180 framerate=24/1"
filter="srfilter model=hypersrcnn scale=2 qos=false"

echo "gst-launch-1.0 ... ! $filter ! ..."
# shellcheck disable=SC2086 # pipelines are split into words on purpose
gst-launch-1.0 -q $source ! $filter ! tee name=t \
    t. ! queue ! filesink location="$out/out.i420" \
    t. ! queue ! vp8enc deadline=1 cpu-used=4 target-bitrate=4000000 ! webmmux \
       ! filesink location="$out/srfilter.webm"
# Again without files and encoder, to measure the time.
# shellcheck disable=SC2086
ended=$(gst-launch-1.0 $source ! $filter ! fakesink sync=false | grep 'Execution ended')
frames=$(($(stat -c %s "$out/out.i420") / (640 * 360 * 3 / 2)))
echo "$ended" | awk -v frames="$frames" '{
    split($NF, time, ":")
    seconds = time[1] * 3600 + time[2] * 60 + time[3]
    printf "%d frames 320x180 -> 640x360 in %.1f s: %.1f frames/s\n", frames, seconds, frames / seconds
}'
"$built/examples/demo" measure "$out"
echo "see $out/srfilter.webm and $out/before_after.png (left bicubic, right srfilter)"
