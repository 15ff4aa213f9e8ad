#!/usr/bin/env bash
# GStreamer 1.22.0, x264enc: `pass=qual` is not of constant quality.
#
# Guess: with pass=qual (x264's CRF) the bitrate is whatever the quality takes, and option-string, which is
# documented to override other properties, can switch off what remains.
# Seen: the property `bitrate` (2048 kbit/s by default) limits the rate by a VBV of 600 ms in this pass, too:
# two seconds of noise come out at 2.3 Mbit/s instead of 23.4. option-string's vbv-maxrate=0:vbv-bufsize=0 does not
# change that; vbv-buf-capacity=0 does. With a VBV, bytes also depend on the threads.
#
# So `sr video` sets vbv-buf-capacity=0. Needs GStreamer's tools and plugins-ugly of Debian 12 (apt);
# outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | head -1
# Kilobits a second.
rate() {
    gst-launch-1.0 -q videotestsrc pattern=snow num-buffers=50 ! video/x-raw,width=640,height=360,framerate=25/1 \
        ! x264enc pass=qual quantizer=18 "$@" ! filesink location="$dir/out.264"
    echo $(($(stat -c %s "$dir/out.264") * 8 / 2 / 1000))
}
default=$(rate)
option=$(rate option-string=vbv-maxrate=0:vbv-bufsize=0)
without=$(rate vbv-buf-capacity=0)
echo "default $default kbit/s, option-string $option, vbv-buf-capacity=0 $without"
[ "$default" -lt 4000 ] && [ "$option" -lt 4000 ] && [ "$without" -gt 20000 ]
