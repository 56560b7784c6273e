"""One stream on disk: preallocated segments that are reused in place, and a cache that says what lies where.

    layout.py   pure: sizes, segment headers and seals as bytes, which segment is used next
    disk.py     system calls, and what their errors mean
    index.py    one slot for each segment, made again from the media at any time
    writer.py   access units to fragments in the open segment; the recorder's thread
    syncer.py   durability, next segments, seals, retention; a thread of its own
    recover.py  what the last power cut left open
    reader.py   rows and bytes, for every other process
    check.py    everything verified, everything shown
    holds.py    spans that must not be recycled

The format and its invariants: docs/formats/ring.md. What is lost when: docs/losing-footage.md.
"""
