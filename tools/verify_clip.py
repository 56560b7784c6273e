#!/usr/bin/env python3
"""Is this clip what the camera box recorded? Checks one clip with nothing but Python 3 (3.8 or later).

    python3 verify_clip.py clip.mp4
    python3 verify_clip.py clip.mp4 --key "1f3a 99c0 ..."      the fingerprint the owner of the box gave you

This one file is the whole check: it imports nothing but Python's standard library, reads the clip, writes
nothing and needs no network. It is meant to be read from top to bottom. The byte tables are in
docs/formats/clip.md and docs/formats/ring.md of the recorder; the parts needed here are repeated below.

A clip is an MP4 file in three parts, which together cover every byte of the file:

    head          ftyp, moov ...: how to decode. Its SHA-256 stands in the manifest.
    fragments     moof, mdat (the pictures), uuid (the commit record). The SHA-256 of each stands in the manifest.
    manifest      one uuid atom: the box's public key, its signature, and a JSON text that lists all of the above.

What is checked, in this order:

    1. the manifest is the last thing in the file, and whole
    2. its signature (Ed25519, RFC 8032) fits its text and the public key in it
    3. the public key is the expected one, if one was given: a signature alone only proves that *somebody* signed
    4. the head has the hash that the manifest gives
    5. the fragments stand where the manifest says, one behind the other, with nothing in between
    6. each fragment has the hash that the manifest gives
    7. two numbers in each fragment say where it stands in *this* file (`mfhd`, `tfdt`); its hash takes them as zero,
       so that cutting a clip does not change it. They must be those that the manifest lists
    8. each fragment's own commit record names the same box, stream, run and number, and the hash of the fragment
       before it: the chain that was made while recording

The exit status is 0 for a genuine clip, 1 for one that is not, 2 if the file cannot be read.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import mmap
import struct
import sys

# ---------------------------------------------------------------------------------------------------------------
# Ed25519, verification only (RFC 8032, 5.1). The curve is -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo P.
# Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x*y = T/Z. Slow (a few ms) and plain; it holds no secret.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor, point):
    total = (0, 1, 1, 0)  # the neutral point
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def point_of(data):
    """The point that 32 bytes stand for (RFC 8032, 5.1.3), or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def bytes_of(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed_by(public_key, message, signature):
    """Whether `signature` (64 bytes) is that of `message` under `public_key` (32 bytes)."""
    key = point_of(public_key)
    s = int.from_bytes(signature[32:], "little")
    if key is None or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    minus_key = (P - key[0], key[1], 1, P - key[3])
    return bytes_of(add(times(s, BASE), times(k, minus_key))) == signature[:32]


# ---------------------------------------------------------------------------------------------------------------
# The manifest: the last atom of the file.
#
#     bytes 0-3    size of this atom          4-7     "uuid"            8-23   "nvr:clip-proof:1"
#           24-27  version, 1                 28-59   public key        60-123 signature
#           124-   JSON text, to the end
#
# Signed is the line "nvr clip manifest 1", a line feed, and the JSON text exactly as it stands there.

MANIFEST_MARK = b"uuid" + b"nvr:clip-proof:1"
MANIFEST_HEAD_BYTES = 124
CLIP_PURPOSE = b"nvr clip manifest 1\n"
NO_HASH = "00" * 32


class Damaged(Exception):
    """The bytes are not what they must be; the text says what and where."""


class Place:
    """One line of the manifest's list of fragments, with types checked and the offset in the file."""

    def __init__(self, entry, offset):
        self.offset = offset
        for name, kind in (
            ("sequence", int), ("run", int), ("from", str), ("to", str), ("decode_ticks", int),
            ("size_bytes", int), ("hash", str), ("hashed", str), ("crc32c", str),
        ):  # fmt: skip
            if type(entry.get(name)) is not kind:
                raise Damaged(f"the manifest's entry for the fragment at byte {offset} has no proper {name!r}")
        self.sequence, self.run, self.decode_ticks = entry["sequence"], entry["run"], entry["decode_ticks"]
        self.size_bytes, self.hash, self.hashed = entry["size_bytes"], entry["hash"], entry["hashed"]
        self.crc32c = entry["crc32c"]
        self.when = f"{entry['from']} to {entry['to']}"
        if self.size_bytes <= 0:
            raise Damaged(f"the manifest gives the fragment at byte {offset} a size of {self.size_bytes}")

    def __str__(self):
        return f"fragment {self.sequence} ({self.when}, bytes {self.offset} to {self.offset + self.size_bytes - 1})"


def find_manifest(data, reasons):
    """(offset, public key, signature, text) of the manifest; None if there is none."""
    start = data.rfind(MANIFEST_MARK) - 4
    if start < 0:
        reasons.append("there is no manifest: the end of the file is missing, or this is not a clip")
        return None
    size = int.from_bytes(data[start : start + 4], "big")
    missing = start + size - len(data)
    if missing > 0:
        reasons.append(
            f"the file is cut short: its manifest at byte {start} should have {size} bytes, {missing} are missing"
        )
    elif missing < 0:
        reasons.append(f"{-missing} bytes stand behind the end of the clip, from byte {start + size} on")
    if size < MANIFEST_HEAD_BYTES:
        reasons.append(
            f"the manifest at byte {start} says that it has {size} bytes; it must have {MANIFEST_HEAD_BYTES} or more"
        )
    if size < MANIFEST_HEAD_BYTES or missing > 0:
        return None
    version = int.from_bytes(data[start + 24 : start + 28], "big")
    if version != 1:
        reasons.append(f"the manifest at byte {start} has version {version}; this program knows version 1")
        return None
    return start, data[start + 28 : start + 60], data[start + 60 : start + 124], data[start + 124 : start + size]


def read_manifest(text):
    """The JSON text as a dict. Raises Damaged."""
    try:
        manifest = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"the manifest is no JSON text: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise Damaged("the manifest is not of format 1")
    for name, kind in (
        ("box", str),
        ("stream", str),
        ("contained", dict),
        ("head", dict),
        ("fragments", list),
        ("gaps", list),
        ("chain", dict),
        ("recorded_by", list),
    ):
        if not isinstance(manifest.get(name), kind):
            raise Damaged(f"the manifest has no proper {name!r}")
    if not manifest["fragments"] or not all(
        isinstance(item, dict) for item in manifest["fragments"] + manifest["gaps"]
    ):
        raise Damaged("the manifest lists no fragments")
    if not all(isinstance(gap.get("after"), int) for gap in manifest["gaps"]):
        raise Damaged("the manifest has a gap without a proper 'after'")
    return manifest


# ---------------------------------------------------------------------------------------------------------------
# A fragment. Everything lies at a fixed place (all numbers big-endian):
#
#     head     0-1015     moof; in it: bytes 20-23 mfhd's sequence number, 60-67 tfdt's decode time
#              1016-1023  size of mdat with these 8 bytes, "mdat"
#     media    1024-      the pictures
#     record   behind it  uuid, to the end of the fragment; counted from its own start:
#              0-3 size   4-7 "uuid"   8-23 "nvr:commit-rec:1"   24-25 version   28-43 box   60-63 run   72-79 sequence
#              136-167 hash of the fragment before   168-199 hash of this one   200-201 length of the stream's name, from 202
#              the last 4 bytes: CRC-32C
#
# The hash of a fragment is SHA-256 over media, head, record, in this order, with zeros for the two fields of the head,
# the hash itself and the CRC. So those four are compared with the manifest one by one.

HEAD_BYTES = 1024
RECORD_MIN_BYTES = 512
RECORD_MARK = b"uuid" + b"nvr:commit-rec:1"


class Fragment:
    """What a fragment says about itself. Raises Damaged for bytes that are none."""

    def __init__(self, data):
        if len(data) < HEAD_BYTES + RECORD_MIN_BYTES or data[4:8] != b"moof" or data[1020:1024] != b"mdat":
            raise Damaged("was changed: it does not begin as a fragment does")
        record_at = HEAD_BYTES - 8 + int.from_bytes(data[1016:1020], "big")
        record = data[record_at:]
        if record_at < HEAD_BYTES or len(record) < RECORD_MIN_BYTES or record[4:24] != RECORD_MARK:
            raise Damaged(f"was changed: its commit record does not stand at byte {record_at} of it")
        self.size_bytes = record_at + int.from_bytes(record[0:4], "big")
        if len(data) != self.size_bytes:
            raise Damaged(f"was changed: it says it has {self.size_bytes} bytes")
        self.number, self.decode_ticks = struct.unpack(">I", data[20:24])[0], struct.unpack(">Q", data[60:68])[0]
        self.box = record[28:44].hex()
        self.run, self.sequence = struct.unpack(">I", record[60:64])[0], struct.unpack(">Q", record[72:80])[0]
        self.previous_hash, self.own_hash = record[136:168].hex(), record[168:200].hex()
        name_end = 202 + int.from_bytes(record[200:202], "big")
        self.stream = record[202:name_end].decode("utf-8", "replace")
        self.crc32c = record[-4:].hex()

        digest = hashlib.sha256(data[HEAD_BYTES:record_at])
        digest.update(data[:20] + bytes(4) + data[24:60] + bytes(8) + data[68:HEAD_BYTES])
        digest.update(record[:168] + bytes(32) + record[200:-4] + bytes(4))
        self.hash = digest.hexdigest()

    def faults(self, manifest, place, number, previous):
        """What about it contradicts the manifest, or the fragment before it; its hash is right already."""
        if self.number != number:
            yield f"has number {self.number} in this file, not {number}"
        if self.decode_ticks != place.decode_ticks:
            yield f"was moved in time: it starts at tick {self.decode_ticks}, not {place.decode_ticks}"
        if self.crc32c != place.crc32c:
            yield f"was changed in its last 4 bytes: they are {self.crc32c}, not {place.crc32c}"
        if self.own_hash != (place.hash if place.hashed == "recording" else NO_HASH):
            yield f"was changed where its own hash stands: that is {self.own_hash[:16]}..."
        for name, own, listed in (
            ("box", self.box, manifest["recorded_by"]), ("stream", self.stream, manifest["stream"]),
            ("run", self.run, place.run), ("number", self.sequence, place.sequence),
        ):  # fmt: skip
            if own != listed and (type(listed) is not list or own not in listed):
                yield f"says that it is of {name} {own}, the manifest says {listed}"
        follows = previous is not None and (self.run, self.sequence) == (previous.run, previous.sequence + 1)
        if follows and place.hashed == "recording" and self.previous_hash != previous.own_hash:
            yield f"does not follow the one before it: it was recorded behind a fragment with hash {self.previous_hash[:16]}..."


# ---------------------------------------------------------------------------------------------------------------
# The verdict.


def fingerprint(public_key):
    """SHA-256 of the public key, as people compare it: groups of four hexadecimal digits."""
    text = hashlib.sha256(public_key).hexdigest()
    return " ".join(text[place : place + 4] for place in range(0, 64, 4))


def is_key(public_key, expected):
    """Whether `expected`, a public key or its fingerprint in hexadecimal (spaces and colons do not count), names this key."""
    wanted = "".join(expected.split()).replace(":", "").lower()
    return wanted in (public_key.hex(), hashlib.sha256(public_key).hexdigest())


def verify(path, expected_key=None):
    """Check the clip in `path`; see the top of this file. Raises OSError if it cannot be read.

    Returns a dict: genuine (True or False), box, camera, stream, from, to, fingerprint (each None if not known),
    reasons (why it is not genuine; empty if it is) and notes (what else should be known about it).
    """
    verdict: dict = {
        "genuine": False, "box": None, "camera": None, "stream": None, "from": None, "to": None,
        "fingerprint": None, "reasons": [], "notes": [],
    }  # fmt: skip
    with open(path, "rb") as file:
        file.seek(0, 2)
        if file.tell() == 0:
            verdict["reasons"].append("the file is empty")
            return verdict
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                checked_all = _judge(data, expected_key, verdict)
            except Damaged as damaged:
                checked_all = False
                verdict["reasons"].append(str(damaged))
    verdict["genuine"] = checked_all and not verdict["reasons"]
    return verdict


def _judge(data, expected_key, verdict):
    """Fill in the verdict. True when every check was made, whatever it found."""
    reasons, notes = verdict["reasons"], verdict["notes"]
    found = find_manifest(data, reasons)
    if found is None:
        return False
    end, public_key, signature, text = found
    verdict["fingerprint"] = fingerprint(public_key)
    if not is_signed_by(public_key, CLIP_PURPOSE + text, signature):
        reasons.append("the signature does not fit: the manifest, the key or the signature was changed")
    if expected_key is None:
        notes.append(f"signed by key {verdict['fingerprint']}, not compared with the key of any box")
    elif not is_key(public_key, expected_key):
        reasons.append(f"signed by another key than expected: by {verdict['fingerprint']}")

    manifest = read_manifest(text)
    verdict["box"], verdict["stream"] = manifest["box"], manifest["stream"]
    verdict["camera"] = manifest["stream"].rpartition("/")[0] or manifest["stream"]
    verdict["from"], verdict["to"] = manifest["contained"].get("from"), manifest["contained"].get("to")
    if hashlib.sha256(public_key).hexdigest()[:32] != manifest["box"]:
        reasons.append(f"the manifest speaks of box {manifest['box']}, which has another key")

    offset = manifest["head"].get("size_bytes")
    if type(offset) is not int or not 0 < offset <= end:
        raise Damaged("the manifest gives the head no proper size")
    if hashlib.sha256(data[:offset]).hexdigest() != manifest["head"].get("sha256"):
        reasons.append(
            f"the head of the file was changed (bytes 0 to {offset - 1}): it says how the pictures are decoded"
        )
    places = []
    for entry in manifest["fragments"]:
        places.append(Place(entry, offset))
        offset += places[-1].size_bytes
    if offset != end:
        reasons.append(
            f"the fragments should end at byte {offset}, where the manifest begins, but that stands at byte {end}"
        )
    check_fragments(data, end, manifest, places, reasons)
    check_chain(manifest, places, reasons)

    if manifest["recorded_by"] != [manifest["box"]]:
        notes.append(
            f"recorded by box {', '.join(map(str, manifest['recorded_by']))}, but cut and signed by box {manifest['box']}"
        )
    late = sum(place.hashed != "recording" for place in places)
    if late:
        notes.append(
            f"{late} of {len(places)} fragments got their hash when the clip was cut, not when they were recorded: "
            "up to then only a checksum protected them, which anybody can compute"
        )
    for gap in manifest["gaps"]:
        notes.append(f"no pictures from {gap.get('from')} to {gap.get('to')}: {gap.get('cause')}")
    return True


def check_fragments(data, end, manifest, places, reasons):
    """Every fragment where it belongs, with its hash, its place and its own record."""
    known = {place.hash: place for place in places}
    bad = 0
    previous = None
    for number, place in enumerate(places):
        faults = []
        fragment = None
        try:
            if place.offset + place.size_bytes > end:
                raise Damaged("is missing or cut short")
            fragment = Fragment(data[place.offset : place.offset + place.size_bytes])
            if fragment.hash != place.hash:
                other = known.get(fragment.hash)
                faults.append(
                    f"was changed: its hash is {fragment.hash[:16]}..." if other is None else f"was replaced by {other}"
                )
            else:
                faults += fragment.faults(manifest, place, number + 1, previous)
        except Damaged as damaged:
            faults.append(str(damaged))
        previous = fragment
        if faults:
            bad += 1
            if bad <= MANY:
                reasons.append(f"{place} {'; '.join(faults)}")
    if bad > MANY:
        reasons.append(f"and {bad - MANY} more fragments")
    if bad:
        reasons.extend(what_moved(data, end, places))


def what_moved(data, end, places):
    """What became of whole fragments, by looking at those that the file holds, wherever they are."""
    held = []
    offset = places[0].offset
    left = 4 * end  # bytes to look at: in a forged file fragments may lie within fragments, thousands of them
    while offset < end and left > 0:
        try:
            left -= HEAD_BYTES
            record_at = offset + HEAD_BYTES - 8 + int.from_bytes(data[offset + 1016 : offset + 1020], "big")
            size = record_at - offset + int.from_bytes(data[record_at : record_at + 4], "big")
            left -= max(min(offset + size, end) - offset, 0)
            held.append(Fragment(data[offset : min(offset + size, end)]).hash)
            offset += size
        except Damaged:  # look for the next one
            offset = data.find(b"moof", offset + 8, end) - 4
            if offset < 0:
                break
    listed = [place.hash for place in places]
    count = collections.Counter(held)
    for place in places:
        times = count[place.hash]
        if times != 1:
            yield f"{place} is {f'there {times} times' if times else 'not in this file as it was recorded'}"
    if strangers := len(set(held) - set(listed)):
        yield f"{strangers} fragments in this file are not in the manifest: changed, or from another clip"
    known = [digest for digest in held if digest in set(listed)]
    if known != [digest for digest in listed if digest in set(known)] and len(set(known)) == len(known):
        yield "the fragments stand in another order than they were recorded in"


def check_chain(manifest, places, reasons):
    """The manifest against itself: its summary, and a gap wherever fragments do not follow each other."""
    chain = manifest["chain"]
    first, last = places[0], places[-1]
    expected = {
        "fragments": len(places),
        "first_sequence": first.sequence,
        "last_sequence": last.sequence,
        "last_hash": last.hash,
    }
    for name, value in expected.items():
        if chain.get(name) != value:
            reasons.append(f"the manifest contradicts itself: {name} is {chain.get(name)!r}, by its list {value!r}")
    told = {gap.get("after") for gap in manifest["gaps"]}
    for number in range(1, len(places)):
        before, place = places[number - 1], places[number]
        if place.sequence <= before.sequence:
            reasons.append(f"{place} is listed behind fragment {before.sequence}")
        elif (place.run, place.sequence) != (before.run, before.sequence + 1) and before.sequence not in told:
            reasons.append(
                f"footage is missing between fragments {before.sequence} and {place.sequence}, and the manifest does not tell"
            )


MANY = 20  # faults that are described one by one


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Is this clip what the camera box recorded?")
    parser.add_argument("clip")
    parser.add_argument("--key", help="the box's public key, or its fingerprint, in hexadecimal")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args(arguments)
    try:
        verdict = verify(options.clip, options.key)
    except (OSError, ValueError) as error:
        print(f"cannot read {options.clip}: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(verdict, indent=2))
    else:
        print("GENUINE" if verdict["genuine"] else "NOT GENUINE")
        for name in ("stream", "from", "to", "box", "fingerprint"):
            if verdict[name] is not None:
                print(f"  {name + ':':13}{verdict[name]}")
        for reason in verdict["reasons"]:
            print(f"  reason:      {reason}")
        for note in verdict["notes"]:
            print(f"  note:        {note}")
    return 0 if verdict["genuine"] else 1


if __name__ == "__main__":
    sys.exit(main())
