#!/usr/bin/env python3
"""Serves an upscaled stream by RTSP: of another RTSP server, of a file, or a test picture.

    GST_PLUGIN_PATH=target/release python3 examples/rtsp_server.py [SOURCE] [MODEL] [SCALE]
    gst-launch-1.0 rtspsrc location=rtsp://127.0.0.1:8554/sr ! decodebin ! autovideosink

SOURCE is rtsp://..., a file, or nothing. The packages python3-gi and
gir1.2-gst-rtsp-server-1.0 are needed, and gstreamer1.0-plugins-ugly for x264enc.
"""

import pathlib
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
arguments = sys.argv[1:] + [""] * 3
source, model, scale = arguments[0], arguments[1] or "espcn-fast", arguments[2] or "2"
if not Gst.ElementFactory.find("srfilter"):
    sys.exit("no srfilter: set GST_PLUGIN_PATH to the folder of libgstsrfilter.so")

if source.startswith("rtsp://"):
    video = f'rtspsrc location="{source}" latency=100 ! decodebin ! queue'
elif source:
    video = f'filesrc location="{pathlib.Path(source).resolve()}" ! decodebin ! queue'
else:
    video = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1"

factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( {video} ! videoconvert ! srfilter model={model} scale={scale} ! queue ! videoconvert "
    "! x264enc tune=zerolatency speed-preset=ultrafast ! rtph264pay name=pay0 pt=96 )"
)
# All clients see one stream, which is upscaled once.
factory.set_shared(True)

server = GstRtspServer.RTSPServer()
# Other machines reach it only if asked for.
server.set_address("127.0.0.1")
server.get_mount_points().add_factory("/sr", factory)
if not server.attach(None):
    sys.exit("port 8554 is taken")
print("rtsp://127.0.0.1:8554/sr", flush=True)
try:
    GLib.MainLoop().run()
except KeyboardInterrupt:
    pass
