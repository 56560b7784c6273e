"""Builds the disk image and the update bundle from a recipe; `build.py` is the list of steps, `docs/update.md` what comes of it."""
