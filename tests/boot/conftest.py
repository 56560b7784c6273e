"""Builds the virtual PC's image once, with the cache that a machine keeps (NVR_IMAGE_CACHE), and starts boxes from it.

NVR_RECIPE=virt does all of it with the architecture that ships, emulated: several times slower, after a first build of a quarter of an hour.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import films
import pytest
from pretend import PretendCamera

from boot import vm as vms
from image import build, bundle, keys, recipe
from image.cache import Made

RECIPE = os.environ.get("NVR_RECIPE", "virt-x86")
FILM = "drawn/gate.mp4"
USER, PASSWORD = "viewer", "secret-word-7"
SITE = """site: test
time_zone: Asia/Jayapura
box: test-1
storage: {reserve_gb: 0.1}
cameras:
  gate:
    main: {source: rtsp, url: "rtsp://10.0.2.100:8554/gate", user: viewer, password: secret-word-7}
    ring_gb: 0.2
"""
DISK_MIB = 3072


def missing() -> str:
    if os.geteuid() != 0:
        return "builds trees that belong to root: needs root"
    for program, package in (("mmdebstrap", "mmdebstrap"), ("ssh", "openssh-client"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            return f"needs {program}: apt install {package}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if reason and Path(__file__).parent in item.path.parents and any(item.iter_markers(name="boot")):
            item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Builder:
    order: build.Order
    built: build.Built

    def changed(self, change: Callable[[Path], None], version: str, folder: Path) -> Path:
        """A bundle of the same sources, after `change` did something to a copy of `firmware/`."""
        firmware = folder / f"firmware-{version}"
        shutil.copytree(self.order.firmware, firmware, ignore=shutil.ignore_patterns("__pycache__"))
        # The step is cached by content: it must be called as the folder it stands for.
        place = folder / version / "firmware"
        place.parent.mkdir()
        firmware.rename(place)
        change(place)
        made = build.build(replace(self.order, firmware=place, version=version), tell=print)
        return made.bundle.path / "update.raucb"

    def signed_by(self, signer: keys.Signer, folder: Path, root: Path, boot: Path, version: str) -> Path:
        """A bundle of any two files, by any key."""
        content = folder / f"made-{version}"
        content.mkdir()
        shutil.copy(root, content / "root.img")
        shutil.copy(boot, content / "boot.img")
        into = folder / f"bundle-{version}"
        into.mkdir()
        fake = Made("", content, "")
        tools = replace(self.built.toolbox, folders=(*self.built.toolbox.folders, folder))
        bundle.make(
            into,
            tools,
            signer,
            root=fake,
            boot=fake,
            certificate=signer.certificate,
            compatible=self.order.recipe.compatible,
            version=version,
        )
        return into / "update.raucb"


@pytest.fixture(scope="session")
def builder() -> Builder:
    order = build.Order(recipe.load(recipe.recipe_path(RECIPE)), version="1.0")
    return Builder(order, build.build(order, tell=print))


@pytest.fixture(scope="session")
def camera() -> Iterator[PretendCamera]:
    with PretendCamera(f"gate={films.footage(FILM)}", user=USER, password=PASSWORD) as pretend:
        yield pretend


def port_of(camera: PretendCamera) -> int:
    return int(camera.url.split(":")[2].partition("/")[0])


@pytest.fixture(scope="session")
def logs(tmp_path_factory) -> Path:
    """Where serial lines are kept: NVR_BOOT_LOGS, so that a failure elsewhere can be read."""
    given = os.environ.get("NVR_BOOT_LOGS")
    folder = Path(given) if given else tmp_path_factory.mktemp("serial")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def new_box(builder, camera, logs, tmp_path_factory) -> Iterator[Callable[..., vms.Vm]]:
    """Makes boxes that were never started; their cards hold a site file and a key."""
    boxes: list[vms.Vm] = []

    def make(
        name: str, *, site: str = SITE, with_key: bool = True, ports: Sequence[int] | None = None, **options
    ) -> vms.Vm:
        """`ports`: of cameras on this machine, the pretended gate's if None."""
        folder = tmp_path_factory.mktemp(name)
        built = builder.built
        disk = vms.copy_of(built.disk.path / "disk.img", folder / "disk.img", size_mib=DISK_MIB)
        key = vms.make_key(folder)
        card = vms.Card(built.toolbox, disk)
        if site:
            card.put("site/site.yaml", site.encode())
        if with_key:
            card.put("site/authorized_keys", key.with_suffix(".pub").read_bytes())
        architecture = builder.order.recipe.architecture
        box = vms.Vm(
            built.toolbox,
            disk,
            logs / f"{name}.log",
            architecture=architecture,
            accel=vms.accelerator(built.toolbox, built.kernel.path / "vmlinuz") if architecture == "amd64" else "tcg",
            cameras=[port_of(camera)] if ports is None else ports,
            key=key,
            **options,
        )
        box.log.unlink(missing_ok=True)
        boxes.append(box)
        return box

    yield make
    for box in boxes:
        box.kill()
