#!/usr/bin/env python3
"""Changes `scale` and `model` of a running pipeline from Python.

    apt install python3-gi gir1.2-gstreamer-1.0
    GST_PLUGIN_PATH=target/release python3 examples/live_scale.py [VIDEO]
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

CHANGES = [("hypersrcnn", 3, 2), ("srcnn", 2, 1), ("bicubic", 4, 1), ("hypersrcnn", 1, 1)]


def main():
    Gst.init(None)
    if len(sys.argv) > 1:
        source = f'filesrc location="{sys.argv[1]}" ! decodebin ! videoconvert'
    else:
        source = "videotestsrc is-live=true num-buffers=250 ! video/x-raw,width=160,height=120"
    pipeline = Gst.parse_launch(
        f"{source} ! srfilter name=sr qos=false ! fakesink sync=false"
    )
    sr = pipeline.get_by_name("sr")
    pipeline.set_state(Gst.State.PLAYING)
    bus = pipeline.get_bus()
    changes = iter(CHANGES)
    while True:
        message = bus.timed_pop(Gst.SECOND)
        if message is None:
            change = next(changes, None)
            if change:
                model, numer, denom = change
                sr.set_property("model", model)
                # Fractions have no setter of their own in Python: go by text.
                Gst.util_set_object_arg(sr, "scale", f"{numer}/{denom}")
                print(f"set model={model} scale={numer}/{denom}")
            print("   ", sr.get_property("stats").to_string())
        elif message.type == Gst.MessageType.EOS:
            break
        elif message.type == Gst.MessageType.ERROR:
            error, debug = message.parse_error()
            sys.exit(f"{error} ({debug})")
        elif message.type == Gst.MessageType.WARNING:
            print("warning:", message.parse_warning()[0])
    print("end:", sr.get_property("stats").to_string())
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
