"""Clips are judged where they arrive, with the key of the box that sent them."""

from __future__ import annotations

import os

import pytest
from clip_ring import ClipRing, noise

from nvr import clips
from nvr.evidence import Identity
from nvr.hub import proof, tables
from tests.hub.simulated import SimulatedBox


def cut(folder, identity: Identity) -> bytes:
    ring = ClipRing(folder / "ring", box_id=identity.box_id)
    ring.add(noise(5, seconds=2))
    clips.cut_pieces(ring.path, ring.pieces, folder / "clip.mp4", identity)
    return (folder / "clip.mp4").read_bytes()


def judged(hub, box, data: bytes, client, **about) -> dict:
    assert box.upload(client, data, **about).headers["nvr-stored"]
    (row,) = hub.rows(
        tables.object_,
        tables.object_.c.box_id == box.id,
        tables.object_.c.size_bytes == len(data),
        tables.object_.c.sha256 == box.digest(data),
    )
    return row


@pytest.fixture
def recorded(hub, box, tmp_path):
    """(box, camera, a clip it cut)."""
    data = cut(tmp_path, box.identity)
    genuine, said = proof.verdict(tmp_path / "clip.mp4", box.identity.public_bytes, "")
    assert genuine
    return box, said["camera"], data


def test_a_clip_of_this_box_is_genuine(hub, recorded, client):
    box, camera, data = recorded
    row = judged(hub, box, data, client, camera=camera)
    assert row["genuine"] is True and row["proof"]["reasons"] == []


def test_a_clip_with_a_flipped_bit_is_kept_and_not_genuine(hub, recorded, client):
    box, camera, data = recorded
    damaged = bytearray(data)
    damaged[len(damaged) // 2] ^= 1
    row = judged(hub, box, bytes(damaged), client, camera=camera)
    assert row["genuine"] is False and "was changed" in row["proof"]["reasons"][0]


def test_a_clip_under_another_cameras_name_is_not_genuine(hub, recorded, client):
    box, _, data = recorded
    row = judged(hub, box, data, client, camera="attic")
    assert row["genuine"] is False and "attic" in row["proof"]["reasons"][0]


def test_a_clip_that_another_box_cut_is_not_genuine(hub, recorded, client):
    _, camera, data = recorded
    other: SimulatedBox = hub.box("waihaong-2")
    row = judged(hub, other, data, client, camera=camera)
    assert row["genuine"] is False and "another key" in row["proof"]["reasons"][0]


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"uuid" + b"nvr:clip-proof:1" * 3,
        os.urandom(5000),
        b"\0\0\0\x8cuuidnvr:clip-proof:1\0\0\0\x01" + b"[" * 200,
    ],
)
def test_whatever_a_file_holds_it_gets_a_verdict(tmp_path, forged):
    (tmp_path / "clip.mp4").write_bytes(forged)
    genuine, said = proof.verdict(tmp_path / "clip.mp4", bytes(32), "gate")
    assert genuine is False and said["reasons"]


def test_a_clip_that_cannot_be_read_has_no_verdict(tmp_path):
    genuine, said = proof.verdict(tmp_path / "nothing.mp4", bytes(32), "gate")
    assert genuine is not True and said["reasons"]
