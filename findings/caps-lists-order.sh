#!/usr/bin/env bash
# GStreamer 1.22.0: whether two lists of sizes meet depends on what each of them begins with.
#
# Guess: the intersection of { [ 10, 20 ], [ 30, 40 ] } and { 16, [ 32, 64 ] } is { 16, [ 32, 40 ] };
# lists are sets, in any order.
# Seen: it is empty, and the same lists with the second as { [ 32, 64 ], 16 } give the right result.
# A list that begins with a range and one that begins with a number never meet, not even in a number
# that stands in both; two that begin alike do, and so do a list and a range or a number. Elements do
# not link.
#
# Caps of several structures, one for each range or number, avoid it.
# Needs python3-gi, gir1.2-gstreamer-1.0 and GStreamer's tools of Debian 12 (apt); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gst-inspect-1.0 --version | grep "^GStreamer"
cat > "$dir/meet.py" <<'PYTHON'
import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst

Gst.init(None)
ranges = "{ [ 10, 20 ], [ 30, 40 ] }"
for a, b in (
    (ranges, "{ 16, [ 32, 64 ] }"),
    (ranges, "{ [ 32, 64 ], 16 }"),
    (ranges, "[ 15, 35 ]"),
    ("{ [ 10, 20 ], 40 }", "{ 40 }"),
    ("{ 40, [ 10, 20 ] }", "{ 40 }"),
    ("{ [ 10, 20 ], 40 }", "40"),
):
    first, second = (Gst.Caps.from_string(f"video/x-raw,width=(int){width}") for width in (a, b))
    met = first.intersect(second)
    filters = [Gst.ElementFactory.make("capsfilter") for _ in "ab"]
    for element, caps in zip(filters, (first, second)):
        element.set_property("caps", caps)
    links = "links" if filters[0].link(filters[1]) else "does not link"
    print(a, "and", b, "->", "nothing" if met.is_empty() else met.to_string().partition("(int)")[2], links)
PYTHON
/usr/bin/python3 "$dir/meet.py" | tee "$dir/found"
diff "$dir/found" - <<'END'
{ [ 10, 20 ], [ 30, 40 ] } and { 16, [ 32, 64 ] } -> nothing does not link
{ [ 10, 20 ], [ 30, 40 ] } and { [ 32, 64 ], 16 } -> { 16, [ 32, 40 ] } links
{ [ 10, 20 ], [ 30, 40 ] } and [ 15, 35 ] -> { [ 15, 20 ], [ 30, 35 ] } links
{ [ 10, 20 ], 40 } and { 40 } -> nothing does not link
{ 40, [ 10, 20 ] } and { 40 } -> 40 links
{ [ 10, 20 ], 40 } and 40 -> 40 links
END
