#!/usr/bin/env python3
"""Checks that boxes of GStreamer's analytics are scaled with the picture, and left
out where borders are added. Needs gir1.2-gst-plugins-bad-1.0; says so where it is missing."""

import sys

import gi

gi.require_version("Gst", "1.0")
try:
    gi.require_version("GstAnalytics", "1.0")
except ValueError:
    print("skipped: this GStreamer has no analytics")
    sys.exit()
from gi.repository import GLib, Gst, GstAnalytics  # noqa: E402

Gst.init(None)
CAPS = "video/x-raw,format=GRAY8,width=160,height=90,framerate=25/1"
BOX = (16, 9, 32, 27)


def boxes_after(rest):
    """The boxes behind srfilter and the rest of a pipeline; None if they are left out."""
    pipeline = Gst.parse_launch(
        f"appsrc name=from caps={CAPS} format=time ! srfilter name=sr model=bicubic scale=2 {rest} "
        "! appsink name=to sync=false"
    )
    source, sink = pipeline.get_by_name("from"), pipeline.get_by_name("to")
    pipeline.set_state(Gst.State.PLAYING)
    frame = Gst.Buffer.new_wrapped(bytes(160 * 90))
    frame.pts, frame.duration = 0, Gst.SECOND // 25
    meta = GstAnalytics.buffer_add_analytics_relation_meta(frame)
    added, _ = meta.add_od_mtd(GLib.quark_from_string("dog"), *BOX, 0.75)
    assert added
    meta.add_one_cls_mtd(0.5, GLib.quark_from_string("calm"))
    source.emit("push-buffer", frame)
    sample = sink.emit("try-pull-sample", 5 * Gst.SECOND)
    assert sample, "no frame"
    meta = GstAnalytics.buffer_get_analytics_relation_meta(sample.get_buffer())
    if not meta:
        return None
    found = []
    for i in range(GstAnalytics.relation_get_length(meta)):
        there, box = meta.get_od_mtd(i)
        if there:
            _, *place, confidence = box.get_location()
            assert confidence == 0.75
            found.append(tuple(place))
    pipeline.set_state(Gst.State.NULL)
    return found


plain = boxes_after("")
# In the middle of 320x240, where GStreamer's scaling alone would put them too high.
between_borders = boxes_after("! video/x-raw,width=320,height=240,pixel-aspect-ratio=1/1")
print("plain", plain, "between borders", between_borders)
sys.exit(plain != [(32, 18, 64, 54)] or between_borders is not None)
