"""Power cuts of the real image: the real kernel, its real ext4 and FAT, the real programs, on a disk that loses what was not flushed.

One box lives from its first start through recording (rings go round, clips are cut and uploaded to a real hub) to the installation of
an update, and every write and flush of its kernel is logged (write_log.py). Then the disk of many moments is made, each with its own
fate of what was not flushed, opened on this machine, and held to the promises of docs/losing-footage.md and docs/update.md.
What the guest itself had said to be durable by then is the oracle.

    NVR_CUTS=200 NVR_STARTS=6 NVR_SEED=1 NVR_CUT_SESSION=/var/tmp/session python -m pytest -s -m campaign tests/boot/test_power_cuts.py

NVR_CUT_SESSION keeps the log, and takes it from there when it is there already. With --basetemp on a tmpfs a cut takes a second or two, on a busy
disk ten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from pathlib import Path

import films
import pytest
from pretend import PretendCamera

from boot import vm as vms
from boot.conftest import PASSWORD, USER, port_of
from boot.cut_session import RING_GB, Session, Watcher, check_file_system, durable_at, lived, mounted, slowness_ms
from boot.test_virt_x86 import comes_back, wait_until
from boot.write_log import Cutter, Fate, sparse_copy
from firmware import slot_state, slots
from image.disk import SECTOR
from nvr import ledger
from nvr.clock import SystemClock, boot_id
from nvr.evidence import Identity
from nvr.ring import index, layout
from nvr.ring.check import check
from nvr.ring.disk import Directory
from nvr.ring.layout import RingSettings
from nvr.ring.reader import Ring
from nvr.ring.recover import open_ring
from tests.uplink.real_hub import RealHub

pytestmark = [pytest.mark.boot, pytest.mark.campaign]

CUTS = int(os.environ.get("NVR_CUTS", "200"))
STARTS = int(os.environ.get("NVR_STARTS", "6"))
SEED = int(os.environ.get("NVR_SEED", "1"))
RECORD_S = float(os.environ.get("NVR_RECORD_S", "200"))
KEPT = os.environ.get("NVR_CUT_SESSION", "")
LOSS_BOUND_S = 5.0
CAMERAS = ("gate", "busy", "street")
SITE = """site: test
time_zone: Asia/Jayapura
box: test-1
storage: {{reserve_gb: 0.1}}
hub: {{url: "https://10.0.2.101", code: {code}, fingerprint: "{fingerprint}"}}
cameras:
"""
CAMERA = """  {name}:
    main: {{source: rtsp, url: "rtsp://10.0.2.100:8554/{name}", user: viewer, password: secret-word-7}}
    ring_gb: {ring_gb}
"""


# Runs in the box, and says what `record` announces, as it is announced.
def drawn(path: Path, size: tuple[int, int], length_s: int = 10) -> Path:
    """A film that no encoder makes small: noise, so that rings go round in a minute."""
    av = pytest.importorskip("av", reason="films are drawn with PyAV and numpy")
    numpy = pytest.importorskip("numpy", reason="films are drawn with PyAV and numpy")
    random_ = numpy.random.default_rng(size[0])
    with av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "bf": "0", "g": "50", "qp": "36"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(25 * length_s):
            picture = numpy.full((size[1] * 3 // 2, size[0]), 128, numpy.uint8)
            picture[: size[1]] = random_.integers(60, 180, (size[1], size[0]), numpy.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        target.mux(stream.encode(None))
    return path


def file_hash(path: Path, offset: int = 0, size: int | None = None) -> str:
    digest, left = hashlib.sha256(), path.stat().st_size - offset if size is None else size
    with open(path, "rb") as file:
        file.seek(offset)
        while left:
            block = file.read(min(left, 1 << 20))
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def films_of(work: Path) -> list[str]:
    """Three cameras: an ordinary one, and two whose rings go round in a minute or two."""
    busy, street = drawn(work / "busy.mp4", (320, 192)), drawn(work / "street.mp4", (256, 160))
    return [f"gate={films.footage('drawn/gate.mp4')}", f"busy={busy}", f"street={street}"]


def live(session: Session, new_box, builder, work: Path) -> None:
    """The box's life, from its first start until it was killed while an update lies ready in its other slot."""
    bundle = builder.changed(lambda firmware: None, "1.5", work)
    made = vms.contents_of(builder.built.toolbox, bundle, work)
    with PretendCamera(*films_of(work), user=USER, password=PASSWORD) as camera, RealHub(work / "hub") as hub:
        session.site = SITE.format(code=hub.code, fingerprint=hub.fingerprint) + "".join(
            CAMERA.format(name=name, ring_gb=RING_GB) for name in CAMERAS
        )
        box = new_box("power-cuts", site=session.site, ports=[port_of(camera)], hub=int(hub.listen.rpartition(":")[2]))
        box.toolbox = vms.Toolbox(box.toolbox.path, (*box.toolbox.folders, session.folder))
        sparse_copy(box.disk, session.base)
        assert box.key is not None
        shutil.copy(box.key, session.key)
        box.writes = session.folder / "writes"
        watcher = Watcher(box, session)
        try:
            box.start()
            box.wait_for("nvr: slot A committed")
            box.wait_for_shell()
            watcher.mark("committed")
            watcher.listen()
            wait_until(
                lambda: set(durable_at(session, 1 << 60)) == {f"{name}/main" for name in CAMERAS},
                300,
                "everything durable once",
            )
            wait_until(lambda: hub.rows("SELECT * FROM box"), 300, "it enrolled")
            watcher.mark("recording")
            end_s = time.monotonic() + RECORD_S
            while time.monotonic() < end_s:
                now_ms = int(time.time() * 1000)
                hub.command("fetch", camera="gate", from_ms=now_ms - 9000, to_ms=now_ms - 2000, reason="a test")
                time.sleep(15)
            wait_until(hub.clips, 120, "a clip at the hub")
            print(f"{len(hub.clips())} clips arrived while it recorded")
            watcher.mark("recorded")
            told = box.toolbox.run(["sfdisk", "--json", box.disk], folders=[box.disk.parent]).output
            parts = {each["name"]: each for each in json.loads(told)["partitiontable"]["partitions"]}
            session.data_start, session.data_size = (parts["data"][key] * SECTOR for key in ("start", "size"))
            for name, path in (
                ("rootA", builder.built.root_image.path / "root.img"),
                ("bootA", builder.built.boot.path / "boot.img"),
                ("rootB", made / "root.img"),
                ("bootB", made / "boot.img"),
            ):
                session.hashes[name] = f"{parts[name]['start'] * SECTOR} {path.stat().st_size} {file_hash(path)}"
            session.save()  # what comes next takes minutes, and may not come to its end on a busy machine
            box.put(bundle, "/data/update.raucb")
            watcher.mark("installing")
            box.ssh("nvr-update install --no-restart /data/update.raucb", limit_s=1800)
            watcher.mark("installed")
            assert box.resets == 0 and box.crashes == 0, "its log goes over one start of QEMU only"
        finally:
            box.kill()
            watcher.close()
    session.save()


@pytest.fixture(scope="module")
def session(request, tmp_path_factory) -> Session:
    return lived(request, tmp_path_factory, KEPT, live)


# -- what is found after a cut -----------------------------------------------------------------------


def check_databases(data_dir: Path, note: str) -> int:
    found = [path for path in data_dir.rglob("*.db") if path.is_file()]
    for path in found:
        with contextlib.closing(sqlite3.connect(path)) as base:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), f"{note}: {path.name}"
    return len(found)


def check_rings(session: Session, data_dir: Path, log_bytes: int, note: str) -> dict[str, int]:
    """Promises 1 to 4. Milliseconds that each stream lost."""
    identity = Identity.load_or_create(data_dir / "identity" / "key")
    durable = durable_at(session, log_bytes)
    place_of = {
        (told["stream"], told["sequence"]): (told["lap"], told["segment"])
        for _, _, told in session.told
        if told["kind"] == "fragment"
    }
    now_ns = session.guest_ns(log_bytes)
    lost_ms = {}
    for stream, last in durable.items():
        path = data_dir / "rings" / stream
        settings = RingSettings(stream, path, round(session.ring_gb * 1e9))
        directory = Directory(path)
        try:
            ring = open_ring(
                directory,
                settings,
                box_id=identity.box_id,
                boot_id=bytes(16),
                sign=identity.sign,
                public_key=identity.public_bytes,
            )
            assert not ring.recovered.unreadable, f"{note}: {ring.recovered}"
            with Ring(path) as reader:
                found = {row.record.sequence: row.record for row in reader.rows()}
            # Of n segments one is being written, perhaps without a whole fragment yet, and one was taken for what comes next.
            safe = settings.ring_bytes // settings.new_segment_bytes() - 2
            known = {
                sequence: place for (name, sequence), place in place_of.items() if name == stream and sequence <= last
            }
            segments = sorted({**known, **{s: (r.lap, r.segment) for s, r in found.items()}}.items())
            newest = list(dict.fromkeys(place for _, place in reversed(segments)))[:safe]
            missing = [sequence for sequence, place in known.items() if place in newest and sequence not in found]
            assert not missing, f"{note}: {stream} lost {missing}, which the box had called durable"
            end = found[max(found)]
            lost_ms[stream] = max(0, now_ns - end.mono_ns - end.duration_ns) // 1_000_000
            kept = {number: ring.index.raw(number) for number in _segments(directory)}
            index.rebuild_ring(directory, stream)
            again = index.Index.open(directory)
            assert {number: again.raw(number) for number in _segments(directory)} == kept, (
                f"{note}: {stream}: the rebuilt index differs"
            )
            again.close()
        finally:
            directory.close()
    assert check(data_dir) == [], note
    for account in ledger.ledger(data_dir, now=SystemClock().read(), boot_id=boot_id()):
        assert account.recorded_ns + sum(account.by_cause_ns().values()) == account.total_ns, note
        assert account.recorded_ns > 0, f"{note}: {account.stream}"
    return lost_ms


def _segments(directory: Directory) -> list[int]:
    return [number for number in map(layout.segment_number, directory.names()) if number is not None]


def histogram(lost_ms: list[int]) -> str:
    counts = Counter(ms // 500 for ms in lost_ms)
    return "\n".join(f"{step / 2:.1f} to {step / 2 + 0.5:.1f} s  {counts[step]}" for step in range(max(counts) + 1))


def chosen(cutter: Cutter, from_bytes: int, to_bytes: int, count: int, chance: random.Random) -> list[int]:
    """So many moments between two bytes of the log, in order."""
    first, last = max(1, cutter.number_at(from_bytes)), cutter.number_at(to_bytes)
    assert last - first >= count, f"only {last - first} requests to cut behind"
    return sorted(chance.sample(range(first, last), count))


# -- the campaigns -----------------------------------------------------------------------------------


def test_power_cuts_while_recording_and_uploading(session, tmp_path):
    """Promises 1 to 4 of the design hold on a real kernel's disk."""
    logging.disable(logging.WARNING)  # each repair has its line
    chance = random.Random(SEED)
    cutter = Cutter(session.base, session.logs, tmp_path)
    numbers = chosen(cutter, session.marks["recording"], session.marks["recorded"], CUTS, chance)
    laps = max(
        told["lap"]
        for _, size, told in session.told
        if told["kind"] == "fragment" and size <= session.marks["recorded"]
    )
    lost_ms: list[int] = []
    at_stake: list[int] = []
    over: list[str] = []
    databases = 0
    fates: Counter[str] = Counter()
    try:
        for count, number in enumerate(numbers):
            fate = chance.choice((Fate.MIXED, Fate.MIXED, Fate.PREFIX, Fate.LOST, Fate.KEPT))
            note = f"seed {SEED}, request {number}, {fate.value}"
            disk = tmp_path / "cut.img"
            at_stake.append(cutter.cut(number, fate, chance, disk))
            with mounted(disk, session.data_start, session.data_size, tmp_path / "data") as data:
                lost = check_rings(session, data / "nvr", cutter.log_bytes_at(number), note)
                databases = max(databases, check_databases(data / "nvr", note))
            check_file_system(disk, session.data_start, note)
            lost_ms += lost.values()
            fates[fate.value] += 1
            allowed_ms = LOSS_BOUND_S * 1000 + slowness_ms(session, cutter.log_bytes_at(number))
            over += [f"{note}: {stream} {ms} ms" for stream, ms in lost.items() if ms > allowed_ms]
            print(
                f"cut {count}: request {number}, {fate.value}, {at_stake[-1]} writes at stake, lost {lost} ms",
                flush=True,
            )
    finally:
        logging.disable(logging.NOTSET)
        cutter.close()
    print(
        f"{len(numbers)} cuts ({dict(fates)}), {len(lost_ms)} rings recovered, laps up to {laps}, up to {max(at_stake)} unflushed writes at stake"
    )
    slow_ms = slowness_ms(session, session.marks["recorded"])
    print(
        f"more than {LOSS_BOUND_S:.0f} s: {sum(ms > LOSS_BOUND_S * 1000 for ms in lost_ms)} rings; the recorder was up to {slow_ms} ms slow"
    )
    print(histogram(lost_ms))
    assert laps >= 2, "no ring went round"
    assert databases, "no outbox was there"
    assert not over, over
    assert len(lost_ms) == CUTS * len(CAMERAS)


def test_power_cuts_at_the_first_start(session, builder, tmp_path):
    """Whatever the moment: the partition table is whole, data mounts, and the site file is in one of its two places, whole."""
    chance = random.Random(SEED + 1)
    cutter = Cutter(session.base, session.logs, tmp_path)
    toolbox = vms.Toolbox(builder.built.toolbox.path, (*builder.built.toolbox.folders, tmp_path))
    where: Counter[str] = Counter()
    try:
        for number in chosen(cutter, 0, session.marks["committed"], CUTS // 2, chance):
            fate = chance.choice((Fate.MIXED, Fate.MIXED, Fate.PREFIX, Fate.LOST, Fate.KEPT))
            note = f"seed {SEED}, request {number}, {fate.value}"
            disk = tmp_path / "cut.img"
            cutter.cut(number, fate, chance, disk)
            partitions = json.loads(toolbox.run(["sfdisk", "--json", disk]).output)["partitiontable"]["partitions"]
            assert [each["name"] for each in partitions] == ["selector", "bootA", "bootB", "rootA", "rootB", "data"], (
                note
            )
            start, size = (partitions[5][key] * SECTOR for key in ("start", "size"))
            card = vms.Card(toolbox, disk)
            on_card = card.get("site/site.yaml")
            with mounted(disk, start, size, tmp_path / "data") as data:
                kept = data / "site/site.yaml"
                in_data = kept.read_bytes() if kept.exists() else None
                host_key = data / "system/ssh/ssh_host_ed25519_key"
                assert not host_key.exists() or b"END OPENSSH PRIVATE KEY" in host_key.read_bytes(), note
            check_file_system(disk, start, note)
            assert session.site.encode() in (on_card, in_data), f"{note}: the site file is gone, or torn"
            assert in_data in (None, session.site.encode()), f"{note}: a torn site file is in force"
            _, state = choice_of(card)
            assert state.left("A") > 0 or state.good("A"), note
            where["on the card" if in_data is None else "in both" if on_card else "in data"] += 1
    finally:
        cutter.close()
    print(f"{sum(where.values())} cuts of a first start; the site file was {dict(where)}")
    assert where["on the card"] and where["in data"]


def choice_of(card: vms.Card) -> tuple[str, slot_state.State]:
    """What the bootloader would start, as U-Boot and we read the two copies."""
    for name in slots.COPIES:
        with contextlib.suppress(slot_state.NoState):
            state = slot_state.unpacked(card.get(name) or b"")
            return slot_state.choice(state)[0], state
    return slot_state.choice(slot_state.State())[0], slot_state.State()


def test_power_cuts_while_an_update_is_installed(session, builder, tmp_path):
    """What the bootloader would start holds what it should, byte for byte; and what was recorded meanwhile is there."""
    logging.disable(logging.WARNING)
    chance = random.Random(SEED + 2)
    cutter = Cutter(session.base, session.logs, tmp_path)
    toolbox = vms.Toolbox(builder.built.toolbox.path, (*builder.built.toolbox.folders, tmp_path))
    begin, end = session.marks["installing"], session.marks["installed"]
    moments = chosen(cutter, begin, end, CUTS // 2, chance)
    # The state is written in the last moments: all of them are tried.
    last = cutter.number_at(end)
    moments = sorted({*moments, *range(last - 40, last)})
    starts: Counter[str] = Counter()
    try:
        for number in moments:
            fate = chance.choice((Fate.MIXED, Fate.MIXED, Fate.PREFIX, Fate.LOST, Fate.KEPT))
            note = f"seed {SEED}, request {number}, {fate.value}"
            disk = tmp_path / "cut.img"
            cutter.cut(number, fate, chance, disk)
            slot, _ = choice_of(vms.Card(toolbox, disk))
            for name in (f"root{slot}", f"boot{slot}"):
                start, size, wanted = session.hashes[name].split()
                assert file_hash(disk, int(start), int(size)) == wanted, (
                    f"{note}: slot {slot} is started, and its {name} is not whole"
                )
            with mounted(disk, session.data_start, session.data_size, tmp_path / "data") as data:
                check_rings(session, data / "nvr", cutter.log_bytes_at(number), note)
            starts[slot] += 1
    finally:
        logging.disable(logging.NOTSET)
        cutter.close()
    print(f"{len(moments)} cuts while an update was installed; the bootloader would start {dict(starts)}")
    assert starts["A"] and starts["B"]


def test_boxes_start_and_record_from_the_disks_that_cuts_left(session, new_box, tmp_path):
    """The whole way back, by the box's own bootloader: from cuts of the first start, of recording, and of an installation."""
    chance = random.Random(SEED + 3)
    stretches = (
        ("first start", 0, "committed"),
        ("recording", "recording", "recorded"),
        ("installation", "installing", "installed"),
    )
    with PretendCamera(*films_of(tmp_path), user=USER, password=PASSWORD) as camera:
        for count in range(STARTS):
            name, begin, end = stretches[count % len(stretches)]
            box = new_box(f"cut-{count}", site="", with_key=False, ports=[port_of(camera)])
            box.key = session.key
            cutter = Cutter(session.base, session.logs, tmp_path)
            (number,) = chosen(cutter, session.marks[begin] if begin else 0, session.marks[end], 1, chance)
            fate = chance.choice((Fate.MIXED, Fate.PREFIX, Fate.LOST))
            cutter.cut(number, fate, chance, box.disk)
            cutter.close()
            with box:
                slot = comes_back(box, streams=[f"{each}/main" for each in CAMERAS])
                durable = durable_at(session, cutter.log_bytes_at(number))
                there = {
                    each["stream"]: each["pictures"]
                    for each in json.loads(box.ssh("nvr ring ls --data /data/nvr --json"))["streams"]
                }
                assert all(there[stream] > 0 for stream in durable)
                assert box.ssh("systemctl --failed --no-legend --plain").strip() == ""
            print(
                f"{name}, request {number} ({fate.value}): slot {slot}, records again after {box.since_start_s():.0f} s",
                flush=True,
            )
            box.disk.unlink()
