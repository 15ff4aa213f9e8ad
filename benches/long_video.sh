#!/usr/bin/env bash
# `sr video` on ten minutes of 640x360 that it draws: resident memory while it runs, and how right the
# progress is after the first tenth. Needs `make build`, gstreamer1.0-plugins-ugly, and ten quiet minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
sr=${CARGO_TARGET_DIR:-target}/release/sr
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-launch-1.0 -q videotestsrc num-buffers=15000 pattern=zone-plate kx2=20 ky2=20 kt=3 \
    ! video/x-raw,format=I420,width=640,height=360,framerate=25/1 ! x264enc key-int-max=250 speed-preset=fast ! h264parse \
    ! matroskamux ! filesink location="$dir/in.mkv"
python3 - "$sr" "$dir" <<'P'
import json, subprocess, sys, threading, time

program, folder = sys.argv[1:]
command = [program, "video", f"{folder}/in.mkv", f"{folder}/out.mkv", "--model", "espcn-fast", "--json"]
start = time.monotonic()
process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
memory = []  # seconds, MiB


def watch():
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                line = next(line for line in status if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            return
        memory.append((time.monotonic() - start, int(line.split()[1]) / 1024))
        time.sleep(1)


threading.Thread(target=watch, daemon=True).start()
frames, progress = 0, []
for line in process.stdout:
    line = json.loads(line)
    if line["event"] == "segment":
        frames += line["frames"]
        progress.append((time.monotonic() - start, frames))
seconds = time.monotonic() - start
if process.wait() != 0:
    sys.exit("sr video failed")
warm = [mib for at, mib in memory if at > seconds / 10]
half = len(warm) // 2
print(f"{frames} frames in {seconds:.0f} s: {frames / seconds:.1f} frames/s")
print(f"memory after the first tenth: {min(warm):.0f} to {max(warm):.0f} MiB; largest of the first half {max(warm[:half]):.0f}, of the second {max(warm[half:]):.0f}")
at, done = next((at, done) for at, done in progress if done >= frames / 10)
expected = at / done * frames
print(f"after {100 * done / frames:.0f} % of the frames {expected:.0f} s are expected: {100 * (expected / seconds - 1):+.1f} %")
if max(warm[half:]) > 1.1 * max(warm[:half]) or abs(expected / seconds - 1) > 0.05:
    sys.exit("memory grows, or the progress is wrong")
P
