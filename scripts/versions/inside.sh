#!/bin/bash
# The part of matrix.sh inside a bare system: inside.sh REPOSITORY TEST-PROGRAM...
# Prints `field: value` lines for the table.
set -euo pipefail
repository=$1
shift
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    "$repository"/target/debian/gstreamer1.0-srfilter_*.deb "$repository"/target/debian/srfilter-tools_*.deb \
    gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav \
    parallel python3-gi gir1.2-gstreamer-1.0 >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
. /etc/os-release
echo "system: ${PRETTY_NAME}"
echo "gstreamer: $(gst-launch-1.0 --version | sed -n 's/^GStreamer //p')"
echo "glibc: $(ldd --version | sed -n '1s/.* //p')"
gst-inspect-1.0 srfilter >/dev/null
echo "installed: installed"

folder=$(mktemp -d)
cd "$folder"
gst-launch-1.0 -q videotestsrc num-buffers=20 pattern=ball \
    ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 ! x264enc ! queue ! mux. \
    audiotestsrc num-buffers=40 ! audio/x-raw,rate=48000 ! audioconvert ! avenc_aac ! queue ! mux. \
    mp4mux name=mux ! filesink location=in.mp4
gst-launch-1.0 -q videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=64,height=48 ! pngenc ! filesink location=in.png
mkdir -p photos runs/mine
cp in.png photos/
cp "$repository"/models/espcn/weights.safetensors runs/mine/best.safetensors
sr export espcn --to onnx --scale 2 --out model.onnx
failed=0 count=0
while IFS= read -r command; do
    count=$((count + 1))
    if timeout 120 bash -c "$command" </dev/null >command.log 2>&1; then
        echo "played: $command"
    else
        failed=$((failed + 1))
        echo "FAILED: $command"
        cat command.log
    fi
done < "$repository"/target/matrix/readme.txt
echo "readme: $((count - failed)) of $count"

passed=0 broken=0
# From 1.24 on; not in Debian 12.
if apt-get install -y -qq --no-install-recommends gir1.2-gst-plugins-bad-1.0 >/tmp/apt.log 2>&1; then
    if timeout 60 python3 "$repository/scripts/versions/analytics.py"; then
        passed=1
    else
        broken=1
    fi
fi
for program; do
    echo "== $program"
    if ! (cd "$repository" && timeout 900 "$program" >"$folder/test.log" 2>&1); then
        cat "$folder/test.log"
    fi
    result=$(grep '^test result:' "$folder/test.log" || echo "test result: FAILED. 0 passed; 1 failed; 0 ignored")
    echo "$result"
    passed=$((passed + $(sed -n 's/.* \([0-9]*\) passed.*/\1/p' <<<"$result")))
    broken=$((broken + $(sed -n 's/.* \([0-9]*\) failed.*/\1/p' <<<"$result")))
done
echo "tests: $passed passed, $broken failed"
rm -rf "$folder"
[ $failed -eq 0 ] && [ $broken -eq 0 ]
