#!/usr/bin/env bash
# GStreamer 1.22.0 and 1.28.8: the nearest size is not found among ranges in a list.
#
# Guess: gst_structure_fixate_field_nearest_int sets the allowed value that is nearest to the
# target, whether the field is a number, a range or a list of both.
# Seen: of width={ 16, [ 32, 64 ] } and a target of 50 it sets 16, the only plain number, and of a
# list of ranges it sets nothing and returns FALSE, where a range alone gives 50. videoscale, which
# relies on it, fails to negotiate where downstream takes { [ 32, 64 ], [ 100, 600 ] }.
#
# Needs python3-gi and GStreamer's tools of the system's packages; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/nearest.py" <<'PYTHON'
import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst

Gst.init(None)
print(Gst.version_string())
for width in ["[ 32, 64 ]", "{ 16, [ 32, 64 ] }", "{ [ 32, 64 ], [ 100, 600 ] }"]:
    structure = Gst.Caps.from_string(f"video/x-raw, width=(int){width}").get_structure(0).copy()
    found = structure.fixate_field_nearest_int("width", 50)
    print(width, "->", structure.get_int("width").value if found else "nothing")
PYTHON
/usr/bin/python3 "$dir/nearest.py" | tee "$dir/out"
tail -n 3 "$dir/out" > "$dir/found"
diff "$dir/found" - <<'END'
[ 32, 64 ] -> 50
{ 16, [ 32, 64 ] } -> 16
{ [ 32, 64 ], [ 100, 600 ] } -> nothing
END
play() {
    timeout 20 gst-launch-1.0 videotestsrc num-buffers=1 ! video/x-raw,width=320,height=180 \
        ! videoscale ! "video/x-raw,width=(int)$1" ! fakesink > "$dir/play" 2>&1
}
play '[100,600]'
if play '{[32,64],[100,600]}'; then exit 1; fi
grep -m 1 -E "negotiation problem|not-negotiated" "$dir/play"
