from __future__ import annotations

from dataclasses import replace

import pytest

from image import build, keys, release

pytestmark = [pytest.mark.boot, pytest.mark.campaign]


def test_two_builds_of_the_same_inputs_give_the_same_bytes(builder, tmp_path):
    """The second one has a cache of its own and takes nothing but the signer from the first: without one each cache makes a development
    key, and its certificate stands in the root. The bundle's signature is new each time.
    """
    signer = keys.development_signer(builder.order.cache.absolute() / "keys", builder.built.toolbox)
    again = build.build(replace(builder.order, cache=tmp_path / "cache", signer=signer), tell=print)
    for first, second, name in (
        (builder.built.root_image, again.root_image, "root.img"),
        (builder.built.boot, again.boot, "boot.img"),
        (builder.built.selector, again.selector, "selector.img"),
    ):
        assert release.file_hash(first.path / name) == release.file_hash(second.path / name), name


def test_no_key_and_no_password_is_in_the_root(builder):
    tree = builder.built.root.path / "tree"
    assert not list(tree.glob("etc/ssh/ssh_host_*"))
    assert not list(tree.glob("**/*.key.pem"))
    fields = [line.split(":")[1] for line in (tree / "etc/shadow").read_text().splitlines()]
    assert set(fields) <= {"*", "!*", "!"}


def test_the_root_fits_and_brings_no_compiler_for_screens(builder):
    assert (builder.built.root_image.path / "root.img").stat().st_size <= 250_000_000
    tree = builder.built.root.path / "tree"
    assert not list(tree.glob("usr/lib/*/libLLVM*"))
    assert list(tree.glob("usr/lib/python3.13/__pycache__/*.pyc"))
