#!/usr/bin/env bash
# Tries the packages of target/debian (scripts/package.sh, on the oldest release) on newer ones:
# in a bare system of each (debootstrap, as root) it installs them, plays the pipelines of the
# README, and runs the test programs that were compiled here against the GStreamer there.
#
# scripts/matrix.sh [SUITE...] prints a table, which is docs/versions.md; default: bookworm
# trixie forky.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
[ $# -gt 0 ] || set -- bookworm trixie forky
ls target/debian/{gstreamer1.0-srfilter,srfilter-tools}_*.deb >/dev/null || {
    echo "run scripts/package.sh first" >&2
    exit 1
}
# The test programs that use GStreamer.
programs=$(cargo test --release --workspace --no-run --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"\([^"]*\)".*"src_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2 \3/p' |
    grep -E ' [^ ]*/(plugin/tests|cli/tests/(video|measure|live|evaluate_video)|tests/(pipeline|overload|formats|depth|resolution|reuse|view|deadlines))' |
    awk '{print $3}' | sort)
[ -n "$programs" ] || { echo "found no test programs" >&2; exit 1; }
logs=target/matrix
mkdir -p $logs
# The commands of the README, with a sink that needs no screen, and streams that end.
awk '/^```sh/ {on = 1; next} /^```/ {on = 0} on' README.md | sed -e ':a' -e '/\\$/ {N; s/\\\n *//; ba}' |
    grep '^gst-launch-1.0\|^target/release/sr ' |
    sed -e 's/autovideosink/fakesink/g' -e 's/videotestsrc/videotestsrc num-buffers=5/' -e 's|^target/release/||' > $logs/readme.txt

status=0
rows=()
for suite; do
    log=$logs/$suite.log
    scripts/chroot.sh "$suite" scripts/versions/inside.sh "$PWD" $programs > "$log" 2>&1 || status=1
    field() { sed -n "s/^$1: //p" "$log" | tail -n 1; }
    rows+=("| $(field system) | $(field gstreamer) | $(field glibc) | $(field installed) | $(field readme) | $(field tests) |")
    echo "$suite: $(field readme); $(field tests) (log: $log)" >&2
done
cat <<END2
| system | GStreamer | glibc | packages | README's commands | tests |
|---|---|---|---|---|---|
END2
printf '%s\n' "${rows[@]}"
exit $status
