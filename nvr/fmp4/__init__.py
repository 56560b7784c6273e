"""Fragmented MP4: init segments, fragments and their commit records, for one H.264 stream.

Builds bytes and parses them back; files and sockets are somebody else's business. Follows ISO/IEC 14496-12:2015
(section numbers below) and 14496-15:2017; the byte tables are in docs/formats/ring.md. A fragment is:

    moof          8.8.4   what the fragment contains; always 1016 bytes
      mfhd        8.8.5   sequence number in this file, from 1
      traf        8.8.6
        tfhd      8.8.7   offsets count from the start of the moof
        tfdt      8.8.12  decode time of the first access unit in this file, in ticks
        trun      8.8.8   size, duration and composition offset of each access unit, flags of the first
      free        8.1.2   padding: the media always starts 1024 bytes into the fragment
    mdat          8.1.1   the access units
    uuid          11.1    commit record: who, when, evidence hash, CRC-32C of all the above; ends on a page boundary

Everything lies at a fixed place, so a parser reads the fields, builds the head again and compares: there is one
way to write a fragment, and whatever differs from it is not one.

In atom.py the building blocks, in init.py what comes before the first fragment, in fragment.py the head, in record.py
the commit record, the CRC and the evidence hash.
"""

from nvr.fmp4.atom import BadAtom, Buffer, atoms
from nvr.fmp4.fragment import (
    HEAD_RESERVE_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_SAMPLES,
    Head,
    Layout,
    Sample,
    commit_record_size,
    fragment_layout,
    fragment_size,
    head,
    head_of_tables,
    open_head,
    parse_head,
    renumbered,
)
from nvr.fmp4.init import avc_decoder_configuration, init_segment
from nvr.fmp4.record import (
    RECORD_MIN_BYTES,
    RECORD_USERTYPE,
    RECORD_VERSION,
    STREAM_NAME_MAX_BYTES,
    PayloadHasher,
    check_fragment,
    commit_record,
    fragment_hash,
    hash_of,
    parse_commit_record,
)

__all__ = [
    "HEAD_RESERVE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_SAMPLES",
    "RECORD_MIN_BYTES",
    "RECORD_USERTYPE",
    "RECORD_VERSION",
    "STREAM_NAME_MAX_BYTES",
    "BadAtom",
    "Buffer",
    "Head",
    "Layout",
    "PayloadHasher",
    "Sample",
    "atoms",
    "avc_decoder_configuration",
    "check_fragment",
    "commit_record",
    "commit_record_size",
    "fragment_hash",
    "fragment_layout",
    "fragment_size",
    "hash_of",
    "head",
    "head_of_tables",
    "init_segment",
    "open_head",
    "parse_commit_record",
    "parse_head",
    "renumbered",
]
