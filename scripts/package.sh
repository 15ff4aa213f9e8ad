#!/usr/bin/env bash
# Builds the Debian packages gstreamer1.0-srfilter (the element) and srfilter-tools (sr and
# train) into target/debian. They need the GStreamer and the C library that they were built
# with, or later ones: build them on the oldest system that is to be served.
#
# scripts/package.sh [try SUITE...]: also installs them in bare systems of these Debian
# releases (debootstrap, as root), where it plays the README's first pipeline and removes them.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo_deb=3.8.0

try=()
if [ "${1:-}" = try ]; then
    try=("${@:2}")
    [ ${#try[@]} -gt 0 ] || { echo "usage: scripts/package.sh [try SUITE...]" >&2; exit 2; }
fi
scripts/setup.sh dpkg-dev lintian
# The manifests name this folder.
unset CARGO_TARGET_DIR
target=target
tools=$target/tools
export PATH=$PATH:$HOME/.cargo/bin
if [ "$("$tools/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $cargo_deb" ]; then
    cargo install --quiet --locked --root "$tools" cargo-deb@$cargo_deb
fi

. scripts/dist-env.sh
scripts/licences.sh
cargo build --profile dist --workspace --exclude srfilter-python
manual=$target/dist/manual
rm -rf "$manual"
"$target/dist/sr" manual "$manual"
"$target/dist/train" --manual "$manual"
gzip -9n "$manual"/*.1
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
cat > "$manual/changelog" <<END
srfilter ($version-1) unstable; urgency=medium

  * Release $version: see NEWS.md.

 -- The srfilter developers <srfilter@users.noreply.github.com>  $(git log -1 --format=%cD)
END
rm -f "$target"/debian/{gstreamer1.0-srfilter,srfilter-tools}_*.deb
"$tools/bin/cargo-deb" deb --no-build --profile dist --multiarch=same -p gst-plugin-srfilter
"$tools/bin/cargo-deb" deb --no-build --profile dist -p srfilter-cli
lintian --fail-on error "$target"/debian/*.deb

# In a bare system: install, play, enlarge a picture, remove.
for suite in "${try[@]}"; do
    echo "== $suite"
    scripts/chroot.sh "$suite" /bin/bash -euo pipefail -s "$PWD" <<'INSIDE'
apt-get update -qq
apt-get install -y -qq "$1"/target/debian/*.deb gstreamer1.0-tools gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-plugins-good gstreamer1.0-libav >/dev/null 2>&1
folder=$(mktemp -d)
cd "$folder"
gst-launch-1.0 -q videotestsrc num-buffers=20 pattern=ball \
    ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 ! x264enc ! mp4mux ! filesink location=in.mp4
# The README's first pipeline, with a sink that needs no screen.
gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert \
    ! srfilter model=hypersrcnn scale=2 ! videoconvert ! pngenc snapshot=true ! filesink location=frame.png >/dev/null
sr upscale frame.png large.png --scale 2
sr measure in.mp4 --model espcn --frames 5
sr models >/dev/null
train --help >/dev/null
[ "$(od -An -j16 -N8 -tx1 large.png | tr -d ' \n')" = 00000500000002d0 ]
dpkg -l gstreamer1.0-srfilter libgstreamer1.0-0 libc6 | awk '/^ii/ {print $2, $3}'
apt-get purge -y -qq gstreamer1.0-srfilter srfilter-tools >/dev/null 2>&1
cd /
rm -rf "$folder"
! find / -xdev \( -path "$1" -o -path /proc \) -prune -o \( -name '*srfilter*' -o -path /usr/bin/sr \) -print | grep .
INSIDE
    echo "== $suite: installed, ran, removed without a trace"
done
