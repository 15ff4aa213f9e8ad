#!/usr/bin/env bash
# The root file system of the Containerfile, by debootstrap instead of an image: as root,
# scripts/rootfs.sh makes target/rootfs.tar.xz, for `podman import` or `systemd-nspawn`, from the
# packages in target/debian (scripts/package.sh makes them).
#
# scripts/rootfs.sh try: also plays the README's first pipeline in it, and the pipeline of
# examples/compose.yaml against an RTSP server, as the user without rights.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "debootstrap needs root" >&2; exit 1; }
ls target/debian/{gstreamer1.0-srfilter,srfilter-tools}_*.deb >/dev/null || {
    echo "run scripts/package.sh first" >&2
    exit 1
}
root=target/rootfs
scripts/chroot.sh bookworm
rm -rf "$root"
cp -a target/chroot-bookworm "$root"
cp target/debian/{gstreamer1.0-srfilter,srfilter-tools}_*.deb scripts/container.sh "$root/tmp/"
chroot "$root" /tmp/container.sh
# No compiler, no headers, no package of Rust.
! chroot "$root" sh -c 'command -v cargo rustc gcc cc' || exit 1
XZ_OPT=-T0 tar --create --xz --file=target/rootfs.tar.xz --directory="$root" --one-file-system .
echo "target/rootfs.tar.xz: $(du -h target/rootfs.tar.xz | cut -f1), $(du -sh "$root" | cut -f1) unpacked"
[ "${1:-}" = try ] || exit 0

scripts/setup.sh gir1.2-gst-rtsp-server-1.0 python3-yaml
# In it, as its user.
inside() {
    unshare --mount --propagation private bash -euo pipefail -c '
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        exec chroot --userspec=srfilter "$1" env -i HOME=/home/srfilter PATH=/usr/bin:/bin \
            LANG=C.UTF-8 bash -euo pipefail -c "cd /data; $2"
    ' inside "$root" "$1"
}
inside 'gst-launch-1.0 -q videotestsrc num-buffers=20 pattern=ball \
    ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 ! x264enc ! mp4mux ! filesink location=in.mp4
gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert \
    ! srfilter model=hypersrcnn scale=2 ! videoconvert ! pngenc snapshot=true ! filesink location=frame.png >/dev/null
sr video in.mp4 out.mp4
sr upscale frame.png large.png
[ -s large.png ] && [ -s out.mp4 ]
! touch /usr/bin/sr 2>/dev/null'
echo "as its user: played the README's first pipeline, enlarged a file and a picture"

[ -e target/release/libgstsrfilter.so ] || scripts/build.sh --lib
# The command of the service as compose runs it, against the example's server on this machine.
GST_PLUGIN_PATH=target/release /usr/bin/python3 examples/rtsp_server.py &
server=$!
trap 'kill $server' EXIT
sleep 2
command=$(/usr/bin/python3 - <<'INSIDE'
import shlex, yaml
service = yaml.safe_load(open("examples/compose.yaml"))["services"]["srfilter"]
source = "rtsp://127.0.0.1:8554/sr"
print(shlex.join(shlex.split(service["command"].replace("${RTSP:?rtsp://...}", source))))
INSIDE
)
inside "timeout --signal=INT 20 $command" || true
inside 'cat /hls/live.m3u8; gst-launch-1.0 -v filesrc location="$(ls /hls/*.ts | head -n 1)" ! decodebin ! fakesink' \
    > target/rootfs-hls.txt
grep -q '^#EXTINF' target/rootfs-hls.txt
grep -m 1 -o 'video/x-raw.*width=(int)1280, height=(int)720' target/rootfs-hls.txt
echo "enlarged an RTSP stream into HLS"
