"""GStreamer's RTSP server as two cameras: somebody else's idea of RTSP and RTP. Run by the system's python3.

gst_rtsp_server.py FILM FILM [none|basic|digest USER PASSWORD]     prints its port, then serves /0 and /1
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service("0")
for number, film in enumerate(sys.argv[1:3]):
    factory = GstRtspServer.RTSPMediaFactory.new()
    # Parameter sets in the stream before every keyframe, as most cameras send them.
    factory.set_launch(
        f'( filesrc location="{film}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )'
    )
    factory.set_shared(False)
    if len(sys.argv) > 3 and sys.argv[3] != "none":
        role = Gst.Structure.new_empty("viewer")
        role.set_value("media.factory.access", True)
        role.set_value("media.factory.construct", True)
        permissions = GstRtspServer.RTSPPermissions.new()
        permissions.add_role_from_structure(role)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory(f"/{number}", factory)
if len(sys.argv) > 3 and sys.argv[3] != "none":
    kind, user, password = sys.argv[3:6]
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "viewer")
    if kind == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
