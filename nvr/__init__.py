"""A network video recorder for small ARM boards; `docs/architecture.md` is the map of the rooms."""

__version__ = "0.1.0"
