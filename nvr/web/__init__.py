"""The box's own page: live view, timeline, playback, clips and health, for people on the same network.

`access.py` knows who may look, `live.py` passes announced fragments on, `footage.py` finds recorded ones,
`cutting.py` makes clips, `api.py` answers requests, `server.py` is the process; `page/` is what the browser
gets. The process may be killed at any moment: what it must remember lies in DATA/web.
"""

from nvr.web.access import create_one_time_link
from nvr.web.server import serve

__all__ = ["create_one_time_link", "serve"]
