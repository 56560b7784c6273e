from __future__ import annotations

from pathlib import Path

import pytest

from image import recipe
from image.recipe import RecipeFaulty, load
from nvr.errors import NvrError

GOOD = """board: a test
architecture: amd64
compatible: nvr-test
suite: trixie
kernel: linux-image-amd64
loader: u-boot
packages: [systemd, udev]
root_mib: 100
"""


def written(tmp_path: Path, text: str, name: str = "test") -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(recipe.RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_with_nvr_is_read_without_a_fault(path):
    if path.stem != "appliance":
        each = load(path)
        assert each.packages
        assert "@" not in each.board


def test_lists_of_the_base_come_first_and_other_values_are_replaced(tmp_path):
    written(tmp_path, GOOD, "base")
    found = load(
        written(
            tmp_path,
            "base: base\nboard: another\narchitecture: arm64\ncompatible: nvr-other\nkernel: linux-image-arm64\nloader: tryboot\npackages: [iwd]\n",
        )
    )
    assert found.packages == ("systemd", "udev", "iwd")
    assert (found.name, found.board, found.root_mib, found.suite) == ("test", "another", 100, "trixie")


@pytest.mark.parametrize(
    ("change", "line", "key"),
    [
        (("architecture: amd64", "architecture: i386"), 2, "architecture"),
        (("root_mib: 100", "root_mib: 1"), 8, "root_mib"),
        (("root_mib: 100", "root_gb: 1"), 8, "root_gb"),
        (("loader: u-boot", "loader: grub"), 6, "loader"),
        (("packages: [systemd, udev]", "packages: systemd"), 7, "packages"),
        (("packages: [systemd, udev]", "packages: [systemd, 'rm -rf /']"), 7, "packages"),
        (("packages: [systemd, udev]", "prune: [usr/../etc]"), 7, "prune"),
        (("kernel: linux-image-amd64\n", ""), 1, "kernel"),
        (("board: a test", "board: a test\nboard: another"), 2, "board"),
        (("loader: u-boot", "loader: u-boot\nfiles: {u-boot-rpi: x}"), 7, "files"),
        (("loader: u-boot", "loader: u-boot\nfiles: {u-boot-rpi: {/etc/passwd: ../x}}"), 7, "files"),
        (("loader: u-boot", "loader: u-boot\nvendor_source: rm"), 7, "vendor_source"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, change, line, key):
    with pytest.raises(RecipeFaulty) as caught:
        load(written(tmp_path, GOOD.replace(*change)))
    assert (line, key) in {(fault.line, fault.key) for _, fault in caught.value.faults}


def test_a_mistake_in_the_base_is_named_with_its_file(tmp_path):
    base = written(tmp_path, GOOD.replace("amd64\ncomp", "i386\ncomp"), "base")
    with pytest.raises(RecipeFaulty) as caught:
        load(written(tmp_path, "base: base\narchitecture: amd64\n"))
    assert [path for path, _ in caught.value.faults] == [base]


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecipeFaulty, match="no recipe"):
        load(written(tmp_path, GOOD + "base: missing\n"))


def test_a_recipe_that_is_not_there_says_where_to_look(tmp_path):
    with pytest.raises(NvrError, match="cannot read"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"- a\n- b", b"a: [", b"\t- x", b"a: &a [*a]"])
def test_rubbish_is_refused(tmp_path, data):
    path = tmp_path / "rubbish.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeFaulty):
        load(path)


def test_no_recipe_names_an_archive_of_its_own():
    """Packages come from the machine's own mirror. A vendor's archive is a value that somebody fills in."""
    for path in recipe.RECIPES.glob("*.yaml"):
        assert "://" not in path.read_text(), path
