"""From access units to facts: what a camera shows, as numbers. See docs/architecture.md, "From pixels to facts".

One thread, no clock, no randomness: the same access units give the same facts. PyAV is imported in decoder.py alone, the
model's runtime in objects.py alone; everything else needs numpy at most.
"""
