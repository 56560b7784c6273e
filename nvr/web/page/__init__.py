"""The files that a browser gets: HTML, CSS and JavaScript modules, served as they are by `nvr/web/assets.py`."""
