"""Which disks may become cards, by what lsblk says of them; and the disks of this very machine."""

from __future__ import annotations

import pytest

from tools.nvrctl import disks
from tools.nvrctl.disks import facts_of, refusal

GB = 1_000_000_000


def node(**more):
    return {
        "path": "/dev/sdb", "size": 64 * GB, "rm": True, "ro": False, "hotplug": True, "tran": "usb", "vendor": "Generic ", "model": "MassStorage", "serial": "1",
        "type": "disk", "mountpoints": [None], "fstype": None, "label": None, "partlabel": None, **more,
    }  # fmt: skip


def part(**more):
    return node(**{"path": "/dev/sdb1", "type": "part", "fstype": "vfat", "label": "CAMERA", **more})


def said(found, needed_bytes=4 * GB, **more):
    refused = refusal(facts_of(found), needed_bytes, **more)
    return "" if refused is None else f"{refused} / {refused.hint}"


def test_a_card_in_a_reader_may_be_written_and_shows_what_is_on_it():
    found = node(children=[part(), part(fstype="ext4", label=None)])
    assert said(found) == ""
    assert facts_of(found).contents_text() == "vfat CAMERA, ext4"
    assert facts_of(found).model == "Generic MassStorage"


@pytest.mark.parametrize("place", ["/", "/home", "/boot", "/boot/efi", "/usr", "/var", "/var/lib/docker", "[SWAP]"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_disk_this_machine_runs_from_is_refused_whatever_lies_between(place, depth):
    """A partition, LUKS on it, LVM on that: lsblk shows them below the disk."""
    found = {"path": "/dev/mapper/x", "type": "lvm", "mountpoints": [place], "fstype": "ext4"}
    for kind in ["crypt", "part", "disk"][:depth]:
        found = {"path": f"/dev/{kind}", "type": kind, "mountpoints": [None], "children": [found]}
    whole = node(mountpoints=[place]) if depth == 0 else node(children=[found])
    for override in (False, True):
        assert "this machine runs from" in said(whole, even_if_not_removable=override)
        assert place in said(whole, even_if_not_removable=override)


def test_a_mounted_card_is_refused_and_the_command_to_unmount_it_is_said():
    assert "umount /media/joe/CAMERA" in said(
        node(children=[part(mountpoints=["/media/joe/CAMERA"])]), even_if_not_removable=True
    )


@pytest.mark.parametrize("kind", ["lvm", "crypt", "raid1", "mpath"])
def test_a_disk_that_something_is_built_on_is_refused(kind):
    inside = {"path": "/dev/md0", "type": kind, "mountpoints": [None]}
    assert "something larger" in said(node(children=[inside]), even_if_not_removable=True)


def test_a_card_that_is_too_small_is_refused_with_the_numbers():
    assert "holds 2.00 GB, the image needs 4.00 GB" in said(node(size=2 * GB))
    assert "holds no card" in said(node(size=0))


def test_a_built_in_disk_needs_the_override_spelled_out():
    found = node(rm=False, hotplug=False, tran="sata", path="/dev/sda")
    assert "not removable" in said(found) and "--even-if-not-removable" in said(found)
    assert said(found, even_if_not_removable=True) == ""


def test_a_backup_disk_of_4_tb_at_usb_is_no_card():
    assert "4.0 TB" in said(node(size=4000 * GB), 0)


def test_a_part_of_a_disk_is_refused():
    assert "part of a disk" in said(part())


def test_a_locked_card_is_refused_and_the_lock_is_named():
    assert "lock" in said(node(ro=True))


def test_the_disks_of_this_machine_that_it_runs_from_are_refused():
    """Really asks lsblk; on a machine without any disk of its own there is nothing to refuse."""
    mounted = [each for each in disks.all_disks() if each.mounts]
    for each in mounted:
        assert refusal(each, 0, even_if_not_removable=True) is not None


@pytest.mark.parametrize("path", ["/dev/null", "/etc/hostname", "/dev/nosuchdisk", "/"])
def test_what_is_no_disk_is_refused(path):
    with pytest.raises(disks.CardRefused):
        disks.disk_at(path)
