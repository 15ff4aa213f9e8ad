#!/usr/bin/env bash
# gdppay writes what gdpdepay cannot read, behind parsebin.
#
# GStreamer 1.22.0 (Debian 12). Guess before the run: gdpdepay reads what gdppay writes.
# Seen: behind a demuxer alone it does. parsebin's stream-start and stream-collection events hold
# objects (GstStream, GstStreamCollection), which gdppay writes as their names: "Could not decode
# stream".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
apt-get install -y -qq gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad} > /dev/null
gst-inspect-1.0 --version | grep -m1 GStreamer
cd "$dir"
gst-launch-1.0 -q videotestsrc num-buffers=10 ! jpegenc ! matroskamux ! filesink location=in.mkv
gst-launch-1.0 -q filesrc location=in.mkv ! matroskademux ! gdppay ! filesink location=demuxer.gdp
gst-launch-1.0 -q filesrc location=in.mkv ! parsebin ! gdppay ! filesink location=parsebin.gdp
for name in demuxer parsebin; do
    result="is read"
    # After the error gst-launch-1.0 may wait.
    timeout 10 gst-launch-1.0 -q filesrc location=$name.gdp ! gdpdepay ! fakesink > $name.log 2>&1 || result="fails"
    grep -q "Could not decode stream" $name.log && result="fails: Could not decode stream"
    echo "$name: $result" | tee -a results
done
diff results - << 'X'
demuxer: is read
parsebin: fails: Could not decode stream
X
