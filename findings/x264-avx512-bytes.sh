#!/usr/bin/env bash
# libx264 0.164.3095 (Debian 12) on processors with AVX-512: what it writes depends on memory that
# it never wrote, with its default settings and one thread.
#
# Guess: x264 without `non-deterministic` writes the same bytes for the same frames, whatever the
# memory that malloc returns held before.
# Seen: with malloc's memory filled with three patterns (MALLOC_PERTURB_) the same raw frames become
# three different streams. They are the same again with asm=avx2, or without mbtree, or without B
# frames. In a process that encodes several times, the later streams differ from run to run.
#
# So `sr video`, whose segments are compared between machines, asks for asm=avx2 there.
# Needs ffmpeg of Debian 12 (apt) and AVX-512; outside CI.
set -euo pipefail
grep -q avx512f /proc/cpuinfo || { echo "skipped: no AVX-512 here"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
dpkg-query -W libx264-164 | tee "$dir/version"
grep -q 0.164.3095 "$dir/version"
ffmpeg -v error -f lavfi -i testsrc2=size=192x128:rate=25:duration=2 -pix_fmt yuv420p "$dir/raw.yuv"
# The number of different streams.
streams() {
    for pattern in 0 85 165; do
        MALLOC_PERTURB_=$pattern ffmpeg -v error -y -f rawvideo -s 192x128 -r 25 -i "$dir/raw.yuv" \
            -c:v libx264 -crf 18 -preset medium -threads 1 -x264-params "$1" "$dir/out.264"
        md5sum < "$dir/out.264"
    done | sort -u | wc -l
}
for setting in threads=1 asm=avx512 asm=avx2 mbtree=0 bframes=0; do
    echo "$setting: $(streams "$setting")"
done | tee "$dir/found"
diff "$dir/found" - <<'END'
threads=1: 3
asm=avx512: 3
asm=avx2: 1
mbtree=0: 1
bframes=0: 1
END
