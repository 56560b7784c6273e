"""The folder of objects: what was put is there, and a disk that is away, full or read-only is neither filled nor believed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from nvr.hub import tables
from nvr.hub.blobs import BlobGone, BlobsUnusable
from nvr.hub.folder import FolderBlobs
from nvr.hub.storage import open_blobs
from nvr.hub.upkeep import ObjectsWatch
from tests.hub.conftest import HubProcess, wait_for

KEY = "objects/1/box/ab"


def folder(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "objects", tmp_path / "objects.disk")


def unmount(tmp_path: Path) -> Path:
    """What a process sees of a mount point whose disk went away: another folder, empty."""
    (tmp_path / "objects").rename(tmp_path / "pulled")
    (tmp_path / "objects").mkdir()
    return tmp_path / "objects"


def mount(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "objects")
    (tmp_path / "pulled").rename(tmp_path / "objects")


def test_what_was_put_is_read_in_parts_and_gone_when_deleted(tmp_path):
    blobs = folder(tmp_path)
    blobs.put(KEY, b"0123456789")
    assert b"".join(blobs.read(KEY, 2, 5)) == b"234" and blobs.size(KEY) == 10
    blobs.delete(KEY)
    blobs.delete(KEY)
    with pytest.raises(BlobGone):
        blobs.read(KEY)


@pytest.mark.parametrize(
    "key", ["../x", "/etc/passwd", "objects/../../x", "objects", "objects/A", "objects//x", "objects/x/"]
)
def test_a_key_that_leads_elsewhere_is_refused(tmp_path, key):
    with pytest.raises(AssertionError):
        folder(tmp_path).put(key, b"")


@pytest.mark.parametrize("restarts", [False, True])
def test_a_disk_that_is_away_is_not_filled_and_loses_nothing(tmp_path, restarts):
    blobs, clip = folder(tmp_path), tmp_path / "clip"
    blobs.put(KEY, b"0123456789")
    clip.write_bytes(b"a whole clip")
    empty = unmount(tmp_path)
    if restarts:
        blobs = folder(tmp_path)
    for ask in (
        lambda: blobs.put("objects/1/box/cd", b"x"),
        lambda: blobs.put_file("objects/1/box/cd", clip),
        lambda: blobs.read(KEY),
        lambda: blobs.size(KEY),
        lambda: blobs.delete(KEY),
        blobs.check,
    ):
        with pytest.raises(BlobsUnusable, match="is not there") as refused:
            ask()
        assert refused.value.trouble == "not mounted"
    assert list(empty.iterdir()) == []
    mount(tmp_path)
    blobs.check()
    assert b"".join(blobs.read(KEY)) == b"0123456789"
    blobs.put_file("objects/1/box/cd", clip)
    assert b"".join(blobs.read("objects/1/box/cd")) == b"a whole clip"


def test_another_disk_is_not_taken_for_the_one_before_until_somebody_says_so(tmp_path):
    folder(tmp_path)
    unmount(tmp_path)
    FolderBlobs(tmp_path / "objects", tmp_path / "of-another-hub")  # marked, by another hub
    with pytest.raises(BlobsUnusable, match="found one marked"):
        folder(tmp_path).check()
    (tmp_path / "objects.disk").unlink()
    folder(tmp_path).check()


def test_two_processes_that_begin_at_once_agree_about_the_disk(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        for each in list(pool.map(lambda _: folder(tmp_path), range(16))):
            each.check()


def test_a_hub_of_before_there_were_marks_goes_on_with_its_objects(tmp_path):
    blobs = folder(tmp_path)
    blobs.put(KEY, b"old")
    (tmp_path / "objects.disk").unlink()
    (tmp_path / "objects" / ".disk").unlink()
    assert b"".join(open_blobs(str(tmp_path / "objects"), tmp_path).read(KEY)) == b"old"


def test_half_a_clip_does_not_stay_on_a_disk_that_is_full(tmp_path, monkeypatch):
    """put_file() of another disk copies; what it had written when the disk was full stayed, until nothing fitted any more."""
    import errno

    blobs, clip = folder(tmp_path), tmp_path / "clip"
    clip.write_bytes(bytes(100_000))

    def replaced(draft, path):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def copied(source, target):
        Path(target).write_bytes(bytes(50_000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(shutil, "copyfile", copied)
    with pytest.raises(BlobsUnusable) as refused:
        blobs.put_file(KEY, clip)
    assert refused.value.trouble == "full" and list((tmp_path / "objects" / "drafts").iterdir()) == []


def test_the_watch_says_full_before_the_last_byte_is_gone(tmp_path, monkeypatch):
    blobs = folder(tmp_path)
    watch = ObjectsWatch(blobs, free_least_mb=1)
    watch.look()
    assert watch.state == "ok" and watch.free_bytes
    monkeypatch.setattr(blobs, "free_bytes", lambda: 1024 * 1024 - 1)
    watch.look()
    assert watch.state == "full"


def test_a_hub_without_its_disk_says_so_confirms_nothing_and_goes_on_when_it_is_back(tmp_path, client):
    """It is started without it, as after a power cut: heartbeats and events are taken all the same."""
    hub = HubProcess(tmp_path / "data")
    hub.start()
    try:
        box, clip = hub.box(), os.urandom(50_000)
        hub.kill()
        unmount(hub.data_dir)
        hub.answers = lambda: httpx.get(f"{hub.url}/healthz", timeout=10).json()["objects"] == "not mounted"
        hub.start()
        assert httpx.get(f"{hub.url}/healthz").status_code == 503
        box.join()
        box.send("event", **(event := box.event()))
        box.hear_acks(event["id"])
        begun = box.begin_upload(client, clip)
        if begun.status_code == 201:  # the disk has room for it; whether it is there is found out with the first piece
            begun = box.send_piece(client, begun.headers["location"], clip, 0)
        assert begun.status_code == 503 and "nvr-stored" not in begun.headers
        assert list((hub.data_dir / "objects").iterdir()) == [] and not hub.rows(tables.object_)
        mount(hub.data_dir)
        place = box.begin_upload(client, clip).headers["location"]
        assert box.send_piece(client, place, clip, 0).headers["nvr-stored"] == hashlib.sha256(clip).hexdigest()
        wait_for(lambda: httpx.get(f"{hub.url}/healthz").status_code == 200, "the hub is well again")
    finally:
        hub.stop()


@pytest.mark.root
@pytest.mark.parametrize("trouble", ["full", "read only"])
def test_a_hub_whose_disk_takes_nothing_says_so_confirms_nothing_and_goes_on_afterwards(tmp_path, client, trouble):
    """A file system of its own, of 4 MB, that is filled or made read-only while the hub runs."""
    objects = tmp_path / "objects"
    objects.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", objects], check=True)
    try:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "hub.yaml").write_text("free_least_mb: 0\n")
        hub = HubProcess(tmp_path / "data", "--objects", str(objects))
        hub.start()
        try:
            box, clip = hub.box(), os.urandom(300_000)
            box.join()
            place = box.begin_upload(client, clip).headers["location"]
            if trouble == "full":
                with pytest.raises(OSError, match="No space"), open(objects / "filler", "wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
            else:
                subprocess.run(["mount", "-o", "remount,ro", objects], check=True)
            answer = box.send_piece(client, place, clip, 0)
            assert answer.status_code == 503 and "nvr-stored" not in answer.headers
            still, jpeg = box.still(jpeg=b"\xff\xd8\xff" + os.urandom(20_000))
            event = box.event(still_sha256=still["sha256"])
            box.send("event", **event)
            box.send("still", jpeg, **still, event=event["id"])
            with pytest.raises(TimeoutError):
                box.hear_acks(event["id"], timeout_s=2)
            said = wait_for(
                lambda: (found := httpx.get(f"{hub.url}/healthz").json())["objects"] != "ok" and found, "it says so"
            )
            assert said["objects"] == trouble and said["database"] == "ok"
            if trouble == "full":
                (objects / "filler").unlink()
            else:
                subprocess.run(["mount", "-o", "remount,rw", objects], check=True)
            assert box.send_piece(client, place, clip, 0).headers["nvr-stored"]
            box.send("still", jpeg, **still, event=event["id"])
            box.hear_acks(event["id"])
            wait_for(lambda: httpx.get(f"{hub.url}/healthz").status_code == 200, "the hub is well again")
        finally:
            hub.stop()
    finally:
        subprocess.run(["umount", "-l", objects], check=True)
