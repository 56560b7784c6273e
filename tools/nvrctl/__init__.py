"""`nvrctl`: the installer's program on a laptop, from a list of cameras to cards in boxes.

    site     a table of cameras -> site files, checked
    camera   find cameras, judge their streams, set them
    card     write and verify many cards at once, each with its own identity
    box      find boxes on the LAN and look after them
    hub      set up a hub, its people and its one-time codes
    image    what is in an image file
    doctor   whether this laptop has what the above need

One file per group parses, calls and prints; the files beside them decide (`marks.py`, `fitness.py`, ...) or touch one part
of the world each (`device.py`, `discovery.py`, ...). A group is imported when it is used, so help is instant and a
laptop that only writes cards needs no camera packages.
"""

from __future__ import annotations


def main() -> None:
    from tools.nvrctl.program import nvrctl

    nvrctl(prog_name="nvrctl")
