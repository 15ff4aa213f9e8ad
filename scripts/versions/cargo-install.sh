#!/bin/bash
# Installs the plugin and the commands from source in a bare system whose release has Rust and
# cargo-c, and uses them. As root, with the crates that are here:
#   BIND="$HOME/.cargo" scripts/chroot.sh forky scripts/versions/cargo-install.sh
set -euo pipefail
export CARGO_TARGET_DIR=~/target
# With the crates of this machine, nothing is fetched.
[ ! -d ~/.cargo/registry ] || export CARGO_NET_OFFLINE=true
apt-get update -qq
apt-get install -y -qq --no-install-recommends cargo-c rustc cargo gcc libc6-dev pkgconf ca-certificates \
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
    gstreamer1.0-tools gstreamer1.0-plugins-{base,good} >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
libdir=/usr/lib/$(gcc -print-multiarch)
cargo cinstall --locked -p gst-plugin-srfilter --release --prefix=/usr --libdir="$libdir" 2>&1 | tail -n 3
ls -l "$libdir"/gstreamer-1.0/libgstsrfilter.so
gst-inspect-1.0 srfilter | grep -A 1 '^ *Version'
gst-launch-1.0 -v videotestsrc num-buffers=3 ! video/x-raw,width=320,height=180 ! srfilter model=hypersrcnn scale=2 \
    ! fakesink | grep -o 'srfilter0.*src: caps.*width=(int)640, height=(int)360'

for package in cli train; do
    cargo install --quiet --locked --path $package --root /usr/local
done
folder=$(mktemp -d)
cd "$folder"
gst-launch-1.0 -q videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=64,height=48 ! pngenc ! filesink location=in.png
sr --version
train --version
sr upscale in.png out.png
gst-launch-1.0 -v filesrc location=out.png ! pngdec ! fakesink | grep -o 'pngdec0.*width=(int)128, height=(int)96'
echo "installed by cargo, and used"
