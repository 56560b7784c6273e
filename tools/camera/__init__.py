"""A pretend camera: serves video files over RTSP as a camera would, for the demo and for tests.

It is no part of the product. `nvr` records it through the same code as a real camera; what it can do
that a real one does by accident (go silent, lose packets, freeze, tell the wrong time) is switched on
over HTTP while it runs. `python -m tools.camera --help` lists everything.

    footage.py   a file -> pictures (NAL units with times)
    packets.py   a picture -> RTP packets, made once and patched for every sending; RTCP sender reports
    stream.py    one camera: its timeline, its faults, who watches it
    server.py    RTSP and the HTTP switches on one port; one timer sends the pictures of all cameras
    access.py    basic and digest authentication
"""
