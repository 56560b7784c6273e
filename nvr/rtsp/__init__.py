"""The RTSP client without I/O: bytes in, access units and bytes to send out.

    messages.py  requests and responses (RFC 2326), as real devices write them
    digest.py    who we are: basic and digest authentication (RFC 7617, RFC 7616)
    sdp.py       what the camera offers (RFC 8866), and which of it can be recorded
    rtp.py       packets to pictures (RFC 3550, RFC 6184): the hot path, in place
    reorder.py   datagrams back in order, for UDP
    rtcp.py      sender reports in, receiver reports out (RFC 3550, section 6)
    run.py       pictures to runs and access units: ticks from 0, parameter sets, the camera's clock
    conversation.py  what is said, from OPTIONS to TEARDOWN
    session.py   one connection: messages and packets told apart, events out

Sockets, TLS and back-off are in nvr/source/rtsp.py. Time is passed in.
"""
