#!/usr/bin/env bash
# Opens every page of the book, and web pages that `sr evaluate` writes, in Debian's Chromium: no
# error on the console, nothing loaded from outside; search and sliders work.
# SR: the command `sr`, if not target/release/sr.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
sr=${SR:-$target/release/sr}
if [ ! -x /usr/bin/chromium ]; then
    echo "skipped: pages in a browser, for want of Debian's chromium"
    exit
fi
[ -x "$sr" ] || { echo "no $sr: scripts/build.sh builds it" >&2; exit 1; }
scripts/setup.sh chromium-driver python3-selenium python3-pil gstreamer1.0-plugins-ugly
[ -e "$target/book/index.html" ] || scripts/book.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/images"
gst-launch-1.0 -q videotestsrc num-buffers=4 pattern=zone-plate kx2=20 ky2=20 kt=30 \
    ! video/x-raw,format=RGB,width=192,height=144 \
    ! pngenc ! multifilesink location="$work/images/%d.png"
gst-launch-1.0 -q videotestsrc num-buffers=12 pattern=zone-plate kx2=12 ky2=12 kt=2 \
    ! video/x-raw,format=I420,width=192,height=144,framerate=25/1 \
    ! x264enc ! mp4mux ! filesink location="$work/clip.mp4"
"$sr" evaluate --model espcn,srcnn --scale 2 --data "$work/images" --html "$work/images.html" >/dev/null
"$sr" evaluate --model espcn,srcnn --scale 2 --video "$work/clip.mp4" --crf 26 --frames 4 \
    --html "$work/video.html" >/dev/null
/usr/bin/python3 scripts/browser-test.py "$target/book" "$work/images.html" "$work/video.html"
