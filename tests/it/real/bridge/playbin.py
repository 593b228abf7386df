"""Plays a URL with GStreamer's playbin into nothing: pauses, seeks as often as told, and plays to the end.

Prints a line for each place it reached, and `end` at the end of the stream. Fails with the first error
of the pipeline, and when a place is not reached.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

WAIT = 60 * Gst.SECOND


def wait(playbin, wanted):
    message = playbin.get_bus().timed_pop_filtered(WAIT, wanted | Gst.MessageType.ERROR)
    if message is None:
        sys.exit("nothing happens")
    if message.type == Gst.MessageType.ERROR:
        error, debug = message.parse_error()
        sys.exit(f"{error.message}: {debug}")


def main(url, places):
    Gst.init(None)
    playbin = Gst.ElementFactory.make("playbin")
    playbin.props.uri = url
    for kind in ("audio-sink", "video-sink"):
        sink = Gst.ElementFactory.make("fakesink")
        sink.props.sync = False
        playbin.set_property(kind, sink)
    playbin.set_state(Gst.State.PAUSED)
    wait(playbin, Gst.MessageType.ASYNC_DONE)
    known, duration = playbin.query_duration(Gst.Format.TIME)
    print("duration", duration // Gst.MSECOND if known else "unknown", flush=True)
    flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
    for place in places:
        if not playbin.seek_simple(Gst.Format.TIME, flags, place * Gst.MSECOND):
            sys.exit(f"cannot seek to {place}")
        wait(playbin, Gst.MessageType.ASYNC_DONE)
        _, position = playbin.query_position(Gst.Format.TIME)
        print("at", position // Gst.MSECOND, flush=True)
    playbin.set_state(Gst.State.PLAYING)
    wait(playbin, Gst.MessageType.EOS)
    print("end", flush=True)
    playbin.set_state(Gst.State.NULL)


main(sys.argv[1], [int(place) for place in sys.argv[2:]])
