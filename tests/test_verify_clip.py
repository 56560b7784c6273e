"""The stand-alone verifier finds whatever was done to a clip, and says where."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from clip_ring import ClipRing, noise

from nvr import clip_plan, clips, evidence, fmp4
from nvr.evidence import Identity

VERIFIER_PATH = Path(__file__).parent.parent / "tools" / "verify_clip.py"
_spec = importlib.util.spec_from_file_location("verify_clip", VERIFIER_PATH)
verify_clip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(verify_clip)

IDENTITY = Identity(b"the box of all tests of clips...")


@pytest.fixture(autouse=True)
def quick_signatures(monkeypatch):
    """A thousand verdicts about one manifest need its signature once; every other signature is really computed."""
    monkeypatch.setattr(verify_clip, "is_signed_by", functools.lru_cache(None)(verify_clip.is_signed_by))


def make_ring(path: Path, seed: int = 1, *, box_id: bytes = IDENTITY.box_id, **settings) -> ClipRing:
    """Three seconds, a reconnect after 10 s, three seconds, two lost, three seconds."""
    ring = ClipRing(path, box_id=box_id, **settings)
    ring.add(noise(seed, seconds=3))
    ring.new_run(after_s=10)
    ring.add(noise(seed + 100, seconds=3))
    ring.lose(2, 2.0)
    ring.add(noise(seed + 200, seconds=3))
    return ring


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("clip")
    clips.cut_pieces((ring := make_ring(path / "ring")).path, ring.pieces, path / "clip.mp4", IDENTITY)
    return (path / "clip.mp4").read_bytes()


@pytest.fixture
def judge(tmp_path):
    def judge(data: bytes, key: str | None = IDENTITY.public_bytes.hex()) -> dict:
        path = tmp_path / "judged.mp4"
        path.write_bytes(data)
        verdict = verify_clip.verify(path, key)
        assert verdict["genuine"] is (not verdict["reasons"])
        return verdict

    return judge


def parts(clip: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Head, fragments and manifest atom of a clip."""
    manifest_at = clip.rfind(b"uuid" + evidence.MANIFEST_USERTYPE) - 4
    says = json.loads(clip[manifest_at + evidence.MANIFEST_HEAD_BYTES :])
    offset = says["head"]["size_bytes"]
    head, fragments = clip[:offset], []
    for entry in says["fragments"]:
        fragments.append(clip[offset : offset + entry["size_bytes"]])
        offset += entry["size_bytes"]
    return head, fragments, clip[manifest_at:]


def says_of(clip: bytes) -> dict:
    return json.loads(parts(clip)[2][evidence.MANIFEST_HEAD_BYTES :])


def renumber(fragments: list[bytes]) -> list[bytes]:
    """What somebody who knows the format does to hide a cut: numbers and times that fit."""
    result, ticks = [], 0
    for number, fragment in enumerate(fragments, start=1):
        result.append(
            fmp4.renumbered(fragment[: fmp4.HEAD_RESERVE_BYTES], number, ticks) + fragment[fmp4.HEAD_RESERVE_BYTES :]
        )
        ticks += fmp4.parse_head(fragment).duration_ticks
    return result


def test_an_untouched_clip_is_genuine(clip, judge):
    verdict = judge(clip)
    assert verdict["genuine"] and verdict["reasons"] == []
    assert (verdict["camera"], verdict["stream"], verdict["box"]) == ("porch", "porch/main", IDENTITY.box_id.hex())
    assert verdict["from"] == "2025-06-15T15:06:40.000000000Z"
    assert verdict["to"] == "2025-06-15T15:07:01.000000000Z"
    assert [note.split(" from ")[0] for note in verdict["notes"]] == ["no pictures"] * 2


def test_without_a_key_to_compare_the_verdict_says_so(clip, judge):
    verdict = judge(clip, None)
    assert verdict["genuine"]
    assert f"signed by key {IDENTITY.fingerprint}, not compared" in verdict["notes"][0]


@pytest.mark.parametrize(
    "key", [IDENTITY.public_bytes.hex(), IDENTITY.fingerprint, IDENTITY.fingerprint.upper().replace(" ", ":")]
)
def test_a_key_may_be_given_whole_or_as_fingerprint(clip, judge, key):
    assert judge(clip, key)["genuine"]


@pytest.mark.parametrize(
    "key", [Identity(bytes(32)).fingerprint, Identity(bytes(32)).public_bytes.hex(), "", IDENTITY.fingerprint[:19]]
)
def test_another_key_than_expected_is_not_genuine(clip, judge, key):
    assert "signed by another key" in judge(clip, key)["reasons"][0]


def flipped(clip: bytes, bit: int) -> bytes:
    changed = bytearray(clip)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def regions(clip: bytes) -> dict[str, range]:
    """Every kind of byte in a clip."""
    head, fragments, manifest = parts(clip)
    at = len(head)
    record_at = at + fmp4.fragment_layout(fragments[0]).record_offset
    end, manifest_at = at + len(fragments[0]), len(clip) - len(manifest)
    return {
        "head": range(at),
        "moof": range(at, at + 1016),
        "mfhd number": range(at + 20, at + 24),
        "tfdt time": range(at + 60, at + 68),
        "mdat head": range(at + 1016, at + 1024),
        "media": range(at + 1024, record_at),
        "record": range(record_at, record_at + 200),
        "record hash": range(record_at + 168, record_at + 200),
        "record padding": range(record_at + 220, end - 4),
        "record crc": range(end - 4, end),
        "later fragments": range(end, manifest_at),
        "manifest head": range(manifest_at, manifest_at + 28),
        "manifest key": range(manifest_at + 28, manifest_at + 60),
        "manifest signature": range(manifest_at + 60, manifest_at + 124),
        "manifest text": range(manifest_at + 124, len(clip)),
    }


def test_any_flipped_bit_is_found(clip, judge):
    dice = random.Random(4)
    for name, region in regions(clip).items():
        for _ in range(12):
            bit = 8 * dice.choice(region) + dice.randrange(8)
            assert not judge(flipped(clip, bit))["genuine"], f"bit {bit} in {name}"


@pytest.mark.slow
def test_every_byte_of_a_clip_is_covered(judge, tmp_path):
    """One bit of every single byte; in the bytes that no hash covers, every bit."""
    ring = ClipRing(tmp_path / "ring", box_id=IDENTITY.box_id)
    ring.add(noise(seconds=2, per_second=2, size_bytes=300))
    clips.cut_pieces(ring.path, ring.pieces, tmp_path / "clip.mp4", IDENTITY)
    clip = (tmp_path / "clip.mp4").read_bytes()
    dice = random.Random(5)
    where = regions(clip)
    every_bit = {
        place
        for name in ("mfhd number", "tfdt time", "record hash", "record crc", "manifest head")
        for place in where[name]
    }
    for place in range(len(clip)):
        for bit in range(8) if place in every_bit else (dice.randrange(8),):
            assert not judge(flipped(clip, 8 * place + bit))["genuine"], f"bit {bit} of byte {place}"


def test_the_place_of_a_changed_fragment_is_named(clip, judge):
    head, fragments, _ = parts(clip)
    place = len(head) + len(fragments[0]) + 2000
    reasons = judge(flipped(clip, 8 * place))["reasons"]
    first = len(head) + len(fragments[0])
    assert (
        f"fragment 101 (2025-06-15T15:06:41.000000000Z to 2025-06-15T15:06:42.000000000Z, bytes {first} to "
        in reasons[0]
    )
    assert "was changed" in reasons[0]
    assert not any("fragment 100 " in reason or "fragment 102 " in reason for reason in reasons)


@pytest.mark.parametrize("gone", [0, 1, 4, 8])
@pytest.mark.parametrize("hide", [list, renumber])
def test_a_dropped_fragment_is_found(clip, judge, gone, hide):
    head, fragments, manifest = parts(clip)
    sequence = says_of(clip)["fragments"][gone]["sequence"]
    reasons = judge(head + b"".join(hide(fragments[:gone] + fragments[gone + 1 :])) + manifest)["reasons"]
    assert any(f"fragment {sequence} (" in reason and "not in this file" in reason for reason in reasons)


@pytest.mark.parametrize("hide", [list, renumber])
def test_reordered_fragments_are_found(clip, judge, hide):
    head, fragments, manifest = parts(clip)
    fragments[1], fragments[2] = fragments[2], fragments[1]
    reasons = judge(head + b"".join(hide(fragments)) + manifest)["reasons"]
    assert "the fragments stand in another order than they were recorded in" in reasons
    assert any("fragment 101 (" in reason and "was replaced by fragment 102 (" in reason for reason in reasons)


@pytest.mark.parametrize("hide", [list, renumber])
def test_a_duplicated_fragment_is_found(clip, judge, hide):
    head, fragments, manifest = parts(clip)
    reasons = judge(head + b"".join(hide(fragments[:3] + fragments[2:])) + manifest)["reasons"]
    assert any("fragment 102 (" in reason and "is there 2 times" in reason for reason in reasons)


def test_a_fragment_of_another_clip_of_the_same_box_is_found(clip, judge, tmp_path):
    clips.cut_pieces((ring := make_ring(tmp_path / "ring", seed=9)).path, ring.pieces, tmp_path / "other.mp4", IDENTITY)
    _, others, _ = parts((tmp_path / "other.mp4").read_bytes())
    head, fragments, manifest = parts(clip)
    reasons = judge(head + b"".join(renumber([*fragments[:4], others[4], *fragments[5:]])) + manifest)["reasons"]
    assert any("from another clip" in reason for reason in reasons)


def resigned(clip: bytes, change, identity: Identity = IDENTITY) -> bytes:
    """The clip with a changed manifest, signed by `identity`."""
    head, fragments, _ = parts(clip)
    says = says_of(clip)
    change(says)
    return head + b"".join(fragments) + evidence.manifest_atom(identity, says)


def test_a_manifest_signed_again_by_somebody_else_is_not_of_this_box(clip, judge):
    forger = Identity(b"somebody who can compute hashes.")
    verdict = judge(resigned(clip, lambda says: None, forger), forger.fingerprint)
    assert "which has another key" in verdict["reasons"][0]


def test_a_clip_signed_by_another_box_throughout_is_only_told_by_its_key(clip, judge, tmp_path):
    """Somebody without the box's key can make everything anew, but for the fingerprint. So that must be compared."""
    forger = Identity(b"somebody who can compute hashes.")
    clips.cut_pieces(
        (ring := make_ring(tmp_path / "ring", box_id=forger.box_id)).path, ring.pieces, tmp_path / "forged.mp4", forger
    )
    forged = (tmp_path / "forged.mp4").read_bytes()
    assert judge(forged, None)["genuine"]
    assert not judge(forged, IDENTITY.fingerprint)["genuine"]


def test_the_manifest_of_another_clip_does_not_fit(clip, judge, tmp_path):
    clips.cut_pieces((ring := make_ring(tmp_path / "ring", seed=9)).path, ring.pieces, tmp_path / "other.mp4", IDENTITY)
    head, fragments, _ = parts(clip)
    assert not judge(head + b"".join(fragments) + parts((tmp_path / "other.mp4").read_bytes())[2])["genuine"]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("footage is missing between fragments 102 and 103", lambda says: says["gaps"].pop(0)),
        ("the manifest contradicts itself", lambda says: says["chain"].update(fragments=8)),
        ("says that it is of stream", lambda says: says.update(stream="door/main")),
        ("was moved in time", lambda says: says["fragments"][3].update(decode_ticks=5)),
        ("was changed where its own hash stands", lambda says: says["fragments"][3].update(hashed="cutting")),
        ("the fragments should end at byte", lambda says: says["fragments"].pop()),
        ("lists no fragments", lambda says: says.update(fragments=[])),
        ("no proper 'hash'", lambda says: says["fragments"][0].update(hash=5)),
        ("no proper 'stream'", lambda says: says.pop("stream")),
        ("not of format 1", lambda says: says.update(format=2)),
        ("head no proper size", lambda says: says["head"].update(size_bytes=-1)),
        ("a size of 0", lambda says: says["fragments"][0].update(size_bytes=0)),
        ("is listed behind", lambda says: says["fragments"][5].update(sequence=1)),
        ("missing or cut short", lambda says: says["fragments"][8].update(size_bytes=10**30)),
    ],
)
def test_a_manifest_that_contradicts_the_footage_is_not_genuine_whoever_signed_it(clip, judge, reason, change):
    assert any(reason in found for found in judge(resigned(clip, change))["reasons"])


def test_a_broken_chain_is_found_even_in_a_manifest_that_is_signed(clip, judge, tmp_path):
    """Two rings of one box, with the same numbers: footage swapped on the disk before the clip was cut."""
    ring, other = make_ring(tmp_path / "a"), make_ring(tmp_path / "b", seed=50)
    first, second = ring.pieces[0], other.pieces[1]
    with open(other.path / "000000.mp4", "rb") as file:
        file.seek(second.position.offset)
        stranger = file.read(second.position.size_bytes)
    pieces = [first, clip_plan.Piece(ring.pieces[1].position, second.placed), *ring.pieces[2:]]
    own = pieces[1].position
    padded = stranger if len(stranger) == own.size_bytes else None
    if padded is None:
        pytest.skip("the two fragments have different sizes")
    with open(ring.path / "000000.mp4", "r+b") as file:
        file.seek(own.offset)
        file.write(padded)
    clips.cut_pieces(ring.path, pieces, tmp_path / "clip.mp4", IDENTITY)
    reasons = judge((tmp_path / "clip.mp4").read_bytes())["reasons"]
    assert any("fragment 101 (" in reason and "does not follow the one before it" in reason for reason in reasons)


def test_trailing_bytes_are_found(clip, judge):
    assert f"5 bytes stand behind the end of the clip, from byte {len(clip)} on" in judge(clip + b"extra")["reasons"]
    assert not judge(clip + clip)["genuine"]
    assert not judge(clip + struct.pack(">I4s", 8, b"free"))["genuine"]


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, 20000, -1, -30, -500])
def test_a_clip_cut_short_is_found(clip, judge, kept):
    assert judge(clip[:kept])["reasons"]


def test_a_changed_head_is_found(clip, judge):
    """Other parameter sets or another size of the picture would show the same bytes in another way."""
    place = clip.index(b"avcC") + 30
    reasons = judge(clip[:place] + bytes((clip[place] ^ 4,)) + clip[place + 1 :])["reasons"]
    assert reasons == ["the head of the file was changed (bytes 0 to 4095): it says how the pictures are decoded"]


def test_bytes_between_the_parts_are_found(clip, judge):
    head, fragments, manifest = parts(clip)
    free = struct.pack(">I4s", 8, b"free")
    assert not judge(head + free + b"".join(fragments) + manifest)["genuine"]
    assert not judge(head + b"".join(fragments) + free + manifest)["genuine"]


def test_a_second_manifest_changes_nothing(clip, judge):
    """Inside the media, bytes that look like a manifest are only media."""
    head, fragments, manifest = parts(clip)
    assert not judge(head + b"".join(fragments) + manifest + manifest)["genuine"]


def test_any_garbage_gets_a_verdict(judge):
    dice = random.Random(7)
    for size_bytes in (0, 1, 8, 124, 125, 4096, 30000):
        assert not judge(dice.randbytes(size_bytes))["genuine"]
        mark = struct.pack(">I", size_bytes + 24) + verify_clip.MANIFEST_MARK
        assert not judge(mark + dice.randbytes(size_bytes))["genuine"]
        assert not judge(mark + b"\0\0\0\1" + dice.randbytes(size_bytes))["genuine"]


@pytest.mark.parametrize("value", [None, [], "text", 5, {}, [[]], {"format": 1}, {"format": 1, "box": 5}])
def test_any_signed_json_gets_a_verdict(judge, value):
    assert not judge(bytes(4096) + evidence.manifest_atom(IDENTITY, value))["genuine"]


def test_any_single_value_of_a_signed_manifest_may_be_anything(clip, judge):
    def places(value, path=()):
        yield path
        if isinstance(value, dict):
            for key in value:
                yield from places(value[key], (*path, key))
        elif isinstance(value, list):
            for number in range(min(len(value), 2)):
                yield from places(value[number], (*path, number))

    for path in places(says_of(clip)):
        for stranger in (None, -1, 10**25, "", "text", [], [[]], {}, True):
            if not path:
                continue

            def change(says, path=path, stranger=stranger):
                for step in path[:-1]:
                    says = says[step]
                says[path[-1]] = stranger

            verdict = judge(resigned(clip, change))
            assert isinstance(verdict["genuine"], bool)


def test_a_clip_from_a_ring_without_hashes_is_genuine_and_says_what_that_is_worth(judge, tmp_path):
    ring = make_ring(tmp_path / "ring", evidence=False)
    clips.cut_pieces(ring.path, ring.pieces, tmp_path / "clip.mp4", IDENTITY)
    clip = (tmp_path / "clip.mp4").read_bytes()
    verdict = judge(clip)
    assert verdict["genuine"]
    assert any("9 of 9 fragments got their hash when the clip was cut" in note for note in verdict["notes"])
    dice = random.Random(8)
    for name, region in regions(clip).items():
        assert not judge(flipped(clip, 8 * dice.choice(region)))["genuine"], name


def test_its_ed25519_agrees_with_rfc_8032_and_with_openssl():
    dice = random.Random(1)
    for _ in range(5):
        identity, message = Identity(dice.randbytes(32)), dice.randbytes(50)
        signature = identity.sign(message)
        assert verify_clip.is_signed_by(identity.public_bytes, message, signature)
        for place in (0, 31, 32, 63):
            bad = bytearray(signature)
            bad[place] ^= 1
            assert not verify_clip.is_signed_by(identity.public_bytes, message, bytes(bad))
        s = (
            int.from_bytes(signature[32:], "little") + verify_clip.ORDER
        )  # the same signature, not reduced (RFC 8032, 8.4)
        assert not verify_clip.is_signed_by(identity.public_bytes, message, signature[:32] + s.to_bytes(32, "little"))
    assert not verify_clip.is_signed_by(b"\xff" * 32, b"", bytes(64))
    assert not verify_clip.is_signed_by(bytes((1,)) + bytes(31), b"", bytes((2,)) + bytes(63))


def test_it_runs_alone_with_nothing_but_the_standard_library(clip, tmp_path):
    """As the expert has it: the one file, isolated from every installed package and from ours."""
    alone, path = tmp_path / "verify_clip.py", tmp_path / "clip.mp4"
    alone.write_bytes(VERIFIER_PATH.read_bytes())
    path.write_bytes(clip)
    command = [sys.executable, "-I", "-S", str(alone), str(path), "--key", IDENTITY.fingerprint]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "GENUINE", "")
    path.write_bytes(flipped(clip, 8 * 5000))
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and json.loads(done.stdout)["genuine"] is False
    path.unlink()
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 2


def test_the_signature_can_be_checked_with_openssl_alone(clip, tmp_path):
    """The commands that docs/guide/evidence.md gives to the expert."""
    (tmp_path / "clip.mp4").write_bytes(clip)
    size_bytes = len(parts(clip)[2])
    script = (Path(__file__).parent.parent / "docs/guide/evidence.md").read_text()
    commands = script.split("```\ntail -c SIZE")[1].split("```")[0]
    commands = "tail -c SIZE" + commands
    commands = "\n".join(line.split("   #")[0] for line in commands.splitlines()).replace("SIZE", str(size_bytes))
    if subprocess.run(["which", "openssl"], capture_output=True).returncode:
        pytest.skip("openssl is not installed")
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout, done.stderr


def test_fragments_within_fragments_do_not_keep_the_verifier_busy(clip, judge, monkeypatch):
    """A forged file: behind each 1024 bytes there begins something that reaches to one and the same commit record."""
    head, fragments, manifest = parts(clip)
    inside = bytearray(b"".join(fragments))
    record_at = len(inside) - 512
    inside[record_at:] = (
        (512).to_bytes(4, "big") + verify_clip.RECORD_MARK + bytes(512 - 4 - len(verify_clip.RECORD_MARK))
    )
    for start in range(0, record_at - 1024, 1024):
        inside[start + 4 : start + 8] = b"moof"
        inside[start + 1016 : start + 1024] = (record_at - start - 1024 + 8 + 1).to_bytes(4, "big") + b"mdat"
    looked_at = 0

    class Counting(verify_clip.Fragment):
        def __init__(self, data: bytes) -> None:
            nonlocal looked_at
            looked_at += len(data)
            super().__init__(data)

    monkeypatch.setattr(verify_clip, "Fragment", Counting)
    assert judge(head + bytes(inside) + manifest)["genuine"] is False
    assert looked_at < 10 * len(clip)
