#!/bin/sh
# Turns a bare Debian, with the packages of scripts/package.sh in /tmp, into the system of the
# Containerfile: the element, sr, train, the GStreamer plugins that they use, and a user without
# rights. Runs inside, as root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    /tmp/gstreamer1.0-srfilter_*.deb /tmp/srfilter-tools_*.deb \
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
apt-get clean
rm -rf /var/lib/apt/lists/* /tmp/*
useradd --create-home --uid 1000 srfilter
mkdir /data /hls
chown srfilter /data /hls
