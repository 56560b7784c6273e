"""The box's own page: live view, timeline, playback, clips and health, for people on the same network.

`access.py` knows who may look (`create_one_time_link()`), `live.py` passes announced fragments on, `footage.py`
finds recorded ones, `missing.py` what is not there and why, `cutting.py` makes clips, `api.py` answers requests,
`server.py` is the process (`serve()`); `page/` is what the browser gets. The process may be killed at any moment:
what it must remember lies in DATA/web.
"""
