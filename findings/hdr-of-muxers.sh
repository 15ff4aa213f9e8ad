#!/usr/bin/env bash
# GStreamer 1.22.0 (and the source of 1.29.2): HDR metadata is lost or changed on its way into files.
#
# Guess: mastering display and content light level that caps state are in the file, whatever the encoder and
# the muxer: encoders write them into the stream (SEI), matroskamux and mp4mux into the container.
# Seen: matroskamux divides the luminances by 50000, the unit of chromaticities, instead of 10000: a mastering
# display of 1000 cd/m2 becomes one of 200. mp4mux writes neither mdcv nor clli. x264enc writes no SEI, though
# libx264 can; x265enc does. So H.264 in MP4 has nothing left, and H.265 in Matroska says 200 in the container
# and 1000 in the stream; h265parse and decoders believe the container.
#
# Needs GStreamer's tools, plugins-good, -bad, -ugly and libav of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cd "$dir"
hdr="colorimetry=(string)bt2100-pq,content-light-level=(string)1000:400"
hdr+=",mastering-display-info=(string)34000:16000:13250:34500:7500:3000:15635:16450:10000000:50"
# What a decoder is told of the maximum luminance, in 0.0001 cd/m2, and of the light level.
told() {
    timeout 20 gst-launch-1.0 -v filesrc location="$1" ! parsebin ! fakesink 2>&1 \
        | grep -o "mastering-display-info=[^,]*\|content-light-level=[^,]*" | sort -u \
        | sed 's/.*:\([0-9]*\):[0-9]*$/maximum \1/; s/content.*string)/light /' | paste -sd" " || true
}
for encoder in x264enc x265enc; do
    for muxer in matroskamux mp4mux; do
        file="$encoder-$muxer"
        timeout 20 gst-launch-1.0 -q videotestsrc num-buffers=5 \
            ! video/x-raw,format=I420_10LE,width=128,height=128,framerate=25/1 \
            ! capssetter caps="video/x-raw,$hdr" replace=false ! $encoder \
            ! "h${encoder:1:3}parse" ! $muxer ! filesink location="$file" 2>/dev/null
        boxes=$(grep -a -o "mdcv\|clli" "$file" | paste -sd, || true)
        echo "$file: boxes ${boxes:-none}; $(told "$file")"
    done
done | tee found
python3 - <<'END' | tee -a found
import struct

data = open("x265enc-matroskamux", "rb").read()
for name, element in ("maximum", b"\x55\xd9"), ("minimum", b"\x55\xda"):
    at = data.index(element) + 3
    print(f"Matroska, {name} luminance:", struct.unpack(">d", data[at : at + 8])[0], "cd/m2")
END
diff found - <<'END'
x264enc-matroskamux: boxes none; light 1000:400 maximum 2000000
x264enc-mp4mux: boxes none; 
x265enc-matroskamux: boxes none; light 1000:400 maximum 2000000
x265enc-mp4mux: boxes none; light 1000:400 maximum 10000000
Matroska, maximum luminance: 200.0 cd/m2
Matroska, minimum luminance: 0.001 cd/m2
END
