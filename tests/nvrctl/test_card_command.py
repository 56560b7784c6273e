"""`nvrctl card` as an installer calls it, on plain files and, as root, on loop devices."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cards import IMAGE_BYTES, MIB, SELECTOR, SITE, make_image, needs_tools
from click.testing import CliRunner

from nvr import site as site_room
from nvr import wire
from tools.nvrctl import card_targets, device, selector
from tools.nvrctl.claims import Claims
from tools.nvrctl.partitions import partitions
from tools.nvrctl.program import nvrctl

pytestmark = needs_tools
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder with an image and a site file, where the installer sits."""
    make_image(tmp_path, packing="zstd")
    (tmp_path / "site.yaml").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, status: int = 0):
    result = CliRunner().invoke(nvrctl, [str(each) for each in arguments])
    assert result.exit_code == status, result.output
    return result


def write(*arguments: str, status: int = 0):
    return call("card", "write", "box.img.zst", *arguments, "--site", "site.yaml", "--yes", status=status)


def site_on(path: Path) -> site_room.Site:
    """The site file on the FAT partition of a card."""
    fat = path.with_name(f"{path.name}.fat")
    with open(path, "rb") as disk, open(fat, "wb") as file:
        disk.seek(SELECTOR[0])
        file.write(disk.read(SELECTOR[1]))
    found = site_room.check_text(selector.read(fat), fat)
    assert found.faults == ()
    assert subprocess.run(["fsck.fat", "-n", str(fat)], capture_output=True, check=False).returncode == 0
    fat.unlink()
    return found.site


def test_a_file_becomes_a_whole_card_with_its_own_site_file(desk):
    write("waihaong.img")
    assert (desk / "waihaong.img").stat().st_size == IMAGE_BYTES
    assert [part.name for part in partitions((desk / "waihaong.img").read_bytes()[:MIB])] == ["selector", "root-a"]
    found = site_on(desk / "waihaong.img")
    assert found.box == "waihaong-1" and len(found.hub.code) == 14
    assert not list(desk.glob("*.unfinished"))


def test_ten_cards_share_neither_name_nor_code_and_the_records_know_them(desk):
    told = json.loads(write(*(f"{number}.img" for number in range(10)), "--json").stdout)
    assert all(card["kind"] == "good" for card in told["cards"])
    sites = [site_on(desk / f"{number}.img") for number in range(10)]
    assert len({each.box for each in sites}) == len({each.hub.code for each in sites}) == 10
    codes = json.loads((desk / "cards" / "codes.json").read_text())["codes"]
    assert {each["code_hash"] for each in codes} == {wire.code_hash(each.hub.code) for each in sites}
    assert (desk / told["labels"]).read_bytes().startswith(b"%PDF")


def test_a_second_card_for_a_box_needs_to_be_asked_for_and_takes_back_the_first_code(desk):
    write("a.img")
    assert "--again" in write("b.img", status=1).output
    assert not (desk / "b.img").exists()
    write("b.img", "--again")
    codes = json.loads((desk / "cards" / "codes.json").read_text())["codes"]
    assert sorted(each["is_revoked"] for each in codes) == [False, True]


def sites(desk: Path, count: int) -> None:
    (desk / "sites").mkdir()
    for number in range(1, count + 1):
        (desk / "sites" / f"{number}.yaml").write_text(SITE.replace("waihaong-1", f"waihaong-{number}"))


def write_sites(*arguments: str, status: int = 0):
    return call("card", "write", "box.img.zst", *arguments, "--site", "sites", "--yes", status=status)


def boxes(result) -> list[str]:
    return [each["box"] for each in json.loads(result.stdout)["cards"]]


def test_a_folder_for_more_boxes_than_readers_goes_on_where_it_was(desk):
    sites(desk, 3)
    for devices, names in ((["a.img", "b.img"], ["waihaong-1", "waihaong-2"]), (["c.img"], ["waihaong-3"])):
        assert boxes(write_sites(*devices, "--json")) == names
    assert (
        "--again" in call("card", "write", "box.img.zst", "d.img", "--site", "sites/1.yaml", "--yes", status=1).output
    )


def test_more_cards_than_boxes_without_one_are_refused_with_the_numbers_and_no_box_is_invented(desk):
    """The line of the guide, given a second time for the third of three boxes, wrote it and a fourth that nobody has: with the third's
    cameras and password, and exit status 0."""
    sites(desk, 3)
    write_sites("a.img", "b.img")
    output = write_sites("c.img", "d.img", status=2).output
    assert "2 cards are too many: of 3 site files 1 have no card yet" in output and "3.yaml" in output
    assert not (desk / "c.img").exists() and not (desk / "cards" / "waihaong-4.json").exists()
    assert boxes(write_sites("c.img", "--json")) == ["waihaong-3"]
    assert "of 3 site files 0 have no card yet" in write_sites("d.img", status=2).output


def test_a_folder_with_one_site_file_is_for_one_card(desk):
    sites(desk, 1)
    assert "of 1 site file 1 have no card yet" in write_sites("a.img", "b.img", status=2).output


def test_several_site_files_are_written_as_far_as_they_have_no_card(desk):
    sites(desk, 2)
    both = ("--site", "sites/1.yaml", "--site", "sites/2.yaml", "--yes")
    call("card", "write", "box.img.zst", "a.img", *both)
    assert "1 have no card yet" in call("card", "write", "box.img.zst", "b.img", "c.img", *both, status=2).output
    assert boxes(call("card", "write", "box.img.zst", "b.img", *both, "--json")) == ["waihaong-2"]


def test_again_takes_as_many_site_files_as_cards(desk):
    sites(desk, 2)
    write_sites("a.img", "b.img")
    assert "2 site files" in write_sites("c.img", "--again", status=2).output
    assert boxes(write_sites("c.img", "d.img", "--again", "--json")) == ["waihaong-1", "waihaong-2"]


def test_a_box_that_another_nvrctl_is_writing_counts_as_taken(desk):
    sites(desk, 2)
    with Claims(desk / "cards") as elsewhere:
        assert elsewhere.take("waihaong-1")
        assert boxes(write_sites("a.img", "--json")) == ["waihaong-2"]
        assert "1 of them being written by another" in write_sites("b.img", status=2).output
        for more in ((), ("--again",)):
            output = write("b.img", *more, status=1).output
            assert "a card for waihaong-1 is being written at this moment" in output
    assert boxes(write_sites("b.img", "--json")) == ["waihaong-1"]


@pytest.mark.parametrize("site", [("--site", "sites"), ("--site", "sites/1.yaml"), ("--site", "sites", "--again")])
def test_a_box_called_codes_is_refused_before_its_card_is_written(desk, site):
    """Its record would be cards/codes.json: the card was written, and only then it failed."""
    sites(desk, 1)
    (desk / "sites" / "1.yaml").write_text(SITE.replace("waihaong-1", "codes"))
    output = call("card", "write", "box.img.zst", "a.img", *site, "--yes", status=1).output
    assert "a box cannot be called codes" in output and not list(desk.glob("a.img*"))


@pytest.mark.slow
def test_two_terminals_at_once_never_write_the_same_box(desk):
    sites(desk, 2)
    both = [start("card", "write", "box.img.zst", f"{name}.img", "--site", "sites", "--yes", cwd=desk) for name in "ab"]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {site_on(desk / f"{name}.img").box for name in "ab"} == {"waihaong-1", "waihaong-2"}
    codes = json.loads((desk / "cards" / "codes.json").read_text())["codes"]
    assert {each["box"] for each in codes} == {"waihaong-1", "waihaong-2"}


def test_a_writing_that_was_killed_leaves_its_box_free(desk):
    script = (
        "import pathlib, sys; from tools.nvrctl.claims import Claims\n"
        "claims = Claims(pathlib.Path('cards')); print(claims.take('waihaong-1'), flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=desk,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "True\n"
    write("a.img", status=1)
    other.kill()
    other.communicate(timeout=60)
    write("a.img")


def test_a_faulty_site_file_points_at_the_command_of_this_program(desk):
    (desk / "site.yaml").write_text(SITE.replace("ring_gb: 0.02", "ring_gb: plenty"))
    assert "`nvrctl site check site.yaml`" in write("a.img", status=1).output


def test_it_asks_and_no_is_no(desk):
    (desk / "a.img").write_bytes(b"precious")
    result = CliRunner().invoke(
        nvrctl, ["card", "write", "box.img.zst", "a.img", "--site", "site.yaml", "--replace"], input="n\n"
    )
    assert result.exit_code == 2 and "--yes" in result.output  # nobody can be asked: no terminal
    assert (desk / "a.img").read_bytes() == b"precious"


def test_what_would_be_erased_is_shown(desk):
    (desk / "a.img").write_bytes(b"precious")
    output = write("a.img", "b.img", "--replace").output
    assert "exists, is replaced" in output and "8.4 MB of it data" in output and "waihaong-2" in output


@pytest.mark.parametrize(
    "name",
    [
        "box.img.zst",
        "box.img.bmap",
        "box.img.zst.sha256",
        "site.yaml",
        "cards/waihaong-1.json",
        "cards/waihaong-9.json",
    ],
)
def test_what_a_card_is_made_from_is_never_written_over(desk, name):
    """`card write box.img.zst box.img.zst` took the place of the image with a card made from it."""
    write("a.img")
    before = {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()}
    if (desk / name).exists():
        os.link(desk / name, desk / "link.img")
        assert "not written over" in write("link.img", "--replace", "--again", status=1).output
        (desk / "link.img").unlink()
    output = write(name, "--replace", "--again", status=1).output
    assert "not written over" in output or "one of the records" in output
    assert {path: path.read_bytes() for path in desk.rglob("*") if path.is_file()} == before


def test_a_file_that_is_no_image_for_a_box_is_replaced_only_when_that_is_said(desk):
    (desk / "thesis.odt").write_bytes(b"precious")
    assert "--replace" in write("thesis.odt", status=1).output
    assert (desk / "thesis.odt").read_bytes() == b"precious"
    write("thesis.odt", "--replace")
    write("thesis.odt", "--again")  # now it is one of ours
    (desk / "empty.img").touch()
    write("empty.img", "--again")
    for _ in range(2):  # the records may lie in the same folder
        write("empty.img", "--again", "--records", ".")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.img", "a.img"], "given twice"),
        (["a.img", "./a.img"], "given twice"),
        (["/dev/nosuch"], "no device /dev/nosuch"),
        (["nowhere/a.img"], "no device"),
        (["."], "is a folder"),
        ([f"{number}.img" for number in range(40)], "too many"),
    ],
)
def test_wrong_use_is_named(desk, arguments, words):
    assert words in write(*arguments, status=2).output


def test_the_disk_this_machine_runs_from_is_refused_with_its_mounts(desk):
    from tools.nvrctl import disks

    own = next((each for each in disks.all_disks() if each.system_mounts), None)
    if own is None:
        pytest.skip("this machine shows no disk of its own")
    output = write(own.path, "--even-if-not-removable", status=1).output
    assert "this machine runs from" in output and own.system_mounts[0] in output
    assert not (desk / "cards").exists()


def test_an_image_without_a_place_for_the_site_file_is_refused(desk):
    (desk / "other.img").write_bytes(os.urandom(2 * MIB))
    output = call("card", "write", "other.img", "a.img", "--site", "site.yaml", "--yes", status=1).output
    assert "no partition called `selector`" in output and not (desk / "a.img").exists()


def test_a_damaged_image_makes_no_file(desk):
    data = bytearray((desk / "box.img.zst").read_bytes())
    data[-100_000] ^= 1
    (desk / "box.img.zst").write_bytes(data)
    output = write("a.img", status=1).output
    assert "NOT GOOD" in output and not list(desk.glob("a.img*"))
    assert json.loads((desk / "cards" / "codes.json").read_text())["codes"] == []


def test_a_full_disk_is_said_before_anything_is_written(desk, monkeypatch):
    monkeypatch.setattr(card_targets, "free_bytes_at", lambda path: 1000)
    assert "1.0 kB free" in write("a.img", status=1).output


def start(*arguments: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tools.nvrctl", *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after_s", [0.15, 0.4, 0.8, 1.3])
def test_stopped_at_any_moment_no_file_looks_like_a_card_that_is_not_one(desk, number, after_s):
    process = start("card", "write", "box.img.zst", "a.img", "b.img", "--site", "site.yaml", "--yes", cwd=desk)
    time.sleep(after_s)  # any moment will do: early ones meet imports, late ones the reading back
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    for name in ("a.img", "b.img"):
        if (desk / name).exists():
            assert site_on(desk / name).box.startswith("waihaong-")
    assert "Traceback" not in output or after_s < 0.3  # before our handler stands, Python has its own
    assert not list(desk.glob("*.unfinished"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("card", [0, 1])
def test_a_signal_while_the_cards_are_opened_leaves_no_file_behind(desk, monkeypatch, number, card):
    """The unfinished files were there before anybody listened for Ctrl-C, and outlived it."""
    opened = []

    class Interrupted(device.FileDisk):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.append(self)
            if len(opened) == card + 1:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(device, "FileDisk", Interrupted)
    told = json.loads(write("a.img", "b.img", "--json", status=1).stdout)
    assert [each["kind"] for each in told["cards"]] == ["stopped", "stopped"]
    assert not list(desk.glob("*.img*.unfinished")) and not (desk / "a.img").exists()


def test_records_that_cannot_be_written_leave_no_file_behind(desk, monkeypatch):
    from tools.nvrctl import records

    write("a.img", "--records", "/proc/nope", status=1)
    real, left = records.write, [2]

    def full(path, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(records, "write", full)
    assert "No space left" in write("a.img", "b.img", status=1).output
    assert not list(desk.glob("[ab].img*"))


def test_a_name_that_another_nvrctl_is_writing_is_refused_and_a_leftover_is_not(desk):
    other = device.FileDisk(desk / "a.img", MIB)
    assert "a.img is being written at this moment" in write("a.img", status=1).output
    assert (desk / "a.img.unfinished").exists()
    other.close(whole=False)
    (desk / "a.img.unfinished").write_bytes(b"of one that was killed")
    write("a.img")


# -- loop devices


@pytest.fixture
def loops(tmp_path):
    """Makes loop devices of so many MB; they play cards."""
    made: list[str] = []

    def make(size_mib: int, folder: Path = tmp_path) -> str:
        backing = folder / f"card-{len(made)}"
        with open(backing, "wb") as file:
            file.truncate(size_mib * MIB)
        done = subprocess.run(
            ["losetup", "--find", "--show", str(backing)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"no loop devices here: {done.stderr.strip()}")
        made.append(done.stdout.strip())
        return made[-1]

    yield make
    for path in made:
        subprocess.run(["losetup", "--detach", path], check=False, capture_output=True)


@pytest.fixture
def false_cards(loops, tmp_path):
    """Makes loop devices over cards of tests/nvrctl/card_of_kernel.py, by their kind."""
    made: list[tuple[str, Path, subprocess.Popen]] = []

    def make(kind: str, size_mib: int = 64) -> str:
        path = tmp_path / f"false-{len(made)}"
        path.touch()
        command = [sys.executable, str(Path(__file__).with_name("card_of_kernel.py")), str(path), kind, str(size_mib)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/nvrctl'}"}
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if server.stdout.readline() != "mounted\n":
            pytest.skip(f"no file system in user space here: {server.communicate(timeout=60)[1].splitlines()[-1:]}")
        done = subprocess.run(["losetup", "--find", "--show", str(path)], capture_output=True, text=True, check=False)
        made.append((done.stdout.strip(), path, server))
        if done.returncode != 0:
            pytest.skip(f"no loop device over it here: {done.stderr.strip()}")
        return made[-1][0]

    yield make
    for device_path, path, server in made:
        if device_path:
            subprocess.run(["losetup", "--detach", device_path], check=False, capture_output=True)
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)
        server.kill()
        server.communicate(timeout=60)


def loop_write(*devices: str, status: int = 0, more: tuple[str, ...] = ()):
    return json.loads(write(*devices, "--even-if-not-removable", "--json", *more, status=status).stdout)["cards"]


@pytest.mark.root
def test_ten_loop_devices_at_once(desk, loops):
    cards = loop_write(*(loops(64) for _ in range(10)))
    assert [card["kind"] for card in cards] == ["good"] * 10
    boxes = set()
    for number in range(10):
        backing = desk / f"card-{number}"
        boxes.add(site_on(backing).box)
        found = subprocess.run(["sfdisk", "--verify", str(backing)], capture_output=True, text=True, check=False)
        assert (
            "selector"
            in subprocess.run(["sfdisk", "--dump", str(backing)], capture_output=True, text=True, check=False).stdout
        ), found.stderr
    assert len(boxes) == 10


@pytest.mark.root
def test_ten_at_once_of_which_one_lies_one_drops_and_one_is_pulled(desk, loops, false_cards):
    kinds = {"lies about its size": "wraps", "drops writes": "drops some", "gone": "pulled in writing"}
    devices = [loops(64) for _ in range(7)] + [false_cards(kind) for kind in kinds.values()]
    cards = loop_write(*devices, status=1)
    assert [card["kind"] for card in cards] == ["good"] * 7 + list(kinds)
    assert [card["device"] for card in cards] == devices
    assert abs(cards[7]["real_bytes"] - 32 * MIB) <= MIB
    assert {site_on(desk / f"card-{number}").box for number in range(7)} == {card["box"] for card in cards[:7]}
    codes = json.loads((desk / "cards" / "codes.json").read_text())["codes"]
    assert {each["box"] for each in codes} == {card["box"] for card in cards[:7]}
    for device_path in devices[7:9]:  # the one that was pulled answers nobody
        with open(device_path, "rb") as disk:
            assert not partitions(disk.read(MIB))


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("good", "good"),
        ("wraps", "lies about its size"),
        ("limbo", "lies about its size"),
        ("drops all", "drops writes"),
        ("drops some", "drops writes"),
        ("pulled in writing", "gone"),
        ("pulled in reading", "gone"),
    ],
)
def test_each_false_card_gets_its_verdict_through_the_kernel(desk, false_cards, kind, verdict):
    card = loop_write(false_cards(kind), status=0 if kind == "good" else 1)[0]
    assert card["kind"] == verdict, card


@pytest.mark.root
def test_a_loop_device_is_not_removable_and_refused_without_the_override(desk, loops):
    assert "--even-if-not-removable" in write(loops(64), status=1).output


@pytest.mark.root
def test_a_card_that_is_too_small_is_refused_with_the_numbers(desk, loops):
    output = write(loops(40), "--even-if-not-removable", status=1).output
    assert "holds 0.04 GB, the image needs 0.05 GB" in output


@pytest.mark.root
def test_a_mounted_card_is_refused_and_stays_as_it_is(desk, loops):
    device = loops(64)
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    place = desk / "mounted"
    place.mkdir()
    subprocess.run(["mount", device, str(place)], check=True)
    try:
        (place / "precious").write_text("x")
        output = write(device, "--even-if-not-removable", status=1).output
        assert "umount" in output and str(place) in output
        assert (place / "precious").read_text() == "x"
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_a_card_used_as_swap_is_refused(desk, loops):
    device = loops(64)
    subprocess.run(["mkswap", device], check=True, capture_output=True)
    if subprocess.run(["swapon", device], capture_output=True, check=False).returncode != 0:
        pytest.skip("swap cannot be switched on here")
    try:
        assert "[SWAP]" in write(device, "--even-if-not-removable", status=1).output
    finally:
        subprocess.run(["swapoff", device], check=True)


@pytest.mark.root
def test_a_card_that_fails_in_the_middle_is_told_and_the_other_is_good(desk, loops):
    """The kernel plays it: what is behind the loop device lies on a file system that is full half way, so its writes fail from there on."""
    small = desk / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=36M", "none", str(small)], check=False).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        failing, good = loops(64, small), loops(64)
        cards = loop_write(failing, good, status=1)
        assert cards[0]["kind"] in ("gone", "failed") and cards[1]["kind"] == "good"
        with open(failing, "rb") as disk:
            assert disk.read(MIB) == bytes(MIB)
    finally:
        subprocess.run(["losetup", "--detach", failing], check=False)
        subprocess.run(["umount", "--lazy", str(small)], check=False)


@pytest.mark.root
@pytest.mark.parametrize("after_s", [0.3, 0.6, 0.9, 1.2, 1.6])
def test_killed_at_any_moment_a_card_looks_empty_or_is_whole(desk, loops, after_s):
    device = loops(64)
    (desk / "card-0").write_bytes(b"\xff" * (64 * MIB))
    process = start(
        "card", "write", "box.img.zst", device, "--site", "site.yaml", "--yes", "--even-if-not-removable", cwd=desk
    )
    time.sleep(after_s)
    process.kill()
    process.communicate(timeout=60)
    head = (desk / "card-0").read_bytes()[:MIB]
    if head[512:520] == b"EFI PART":
        assert site_on(desk / "card-0").box == "waihaong-1"
    else:
        assert head[510:512] in (b"\0\0", b"\xff\xff") and not partitions(head)  # empty, or not begun


@pytest.mark.root
def test_watch_writes_each_card_that_is_put_in(desk, loops):
    (desk / "sites").mkdir()
    for number in (1, 2):
        (desk / "sites" / f"{number}.yaml").write_text(SITE.replace("waihaong-1", f"waihaong-{number}"))
    process = start(
        "card", "watch", "box.img.zst", "--site", "sites", "--yes", "--even-if-not-removable", "--json", cwd=desk
    )
    try:
        for line in process.stdout:
            if "Put in a card" in line:
                break
        else:
            pytest.skip("kernel events cannot be heard here")
        devices = [loops(64), loops(64)]
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, output
    told = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    alike = json.loads(write("alike.img", "--again", "--json").stdout)
    assert all(set(each) == {*alike["cards"][0], "image", "labels", "codes"} for each in told)
    assert {each["device"] for each in told} == set(devices) and {each["box"] for each in told} == {
        "waihaong-1",
        "waihaong-2",
    }
    assert {site_on(desk / f"card-{number}").box for number in (0, 1)} == {"waihaong-1", "waihaong-2"}
