"""The steps from a recipe to a disk image and an update bundle, in order. Each is a file of this folder; `cache.py` remembers them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware import slot_state, tryboot
from image import base, bundle, disk, initramfs, kernel, keys, release, root, sbom, slots, toolbox, wheels
from image.cache import Kitchen, Made
from image.mirror import Mirror, mirror_of_this_machine
from image.recipe import Recipe
from image.run import Toolbox, run
from nvr import __version__
from nvr.errors import NvrError

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("NVR_IMAGE_CACHE", "~/.cache/nvr-image")).expanduser()


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants built, and how."""

    recipe: Recipe
    cache: Path = CACHE
    mirror: str = ""
    security_mirror: str = ""
    version: str = __version__
    is_release: bool = False
    signer: keys.Signer | None = None  # None: the development key
    trusted: Path | None = None  # the certificate that boxes believe; the signer's own if None
    firmware: Path = ROOT / "firmware"  # another one for a test that builds a bundle which must fail
    source_date: int = 0  # seconds since 1970; 0: of the last commit


@dataclass(frozen=True, slots=True)
class Built:
    """All that was made."""

    toolbox: Toolbox
    kitchen: Kitchen
    disk: Made
    bundle: Made
    root: Made
    root_image: Made
    kernel: Made
    boot: Made
    selector: Made
    version: str
    report: dict[str, object]
    sbom: dict[str, object]


def build(order: Order, tell: Callable[[str], None] = print) -> Built:
    """Everything that `order` asks for. Raises NvrError when a step fails; the steps before it stay in the cache."""
    recipe, cache = order.recipe, order.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    mirror = mirror_of_this_machine(order.mirror, order.security_mirror)
    source_date = order.source_date or date_of_sources()
    kitchen = Kitchen(cache, tell)
    tools = open_toolbox(kitchen, mirror, recipe.architecture)
    signer = order.signer or keys.development_signer(cache / "keys", tools)
    if order.is_release:
        keys.check_for_release(signer, tools)
    inside = {"toolbox": tools}
    fetching = {**inside, "mirror": mirror}

    base_root = kitchen.make(
        "base", base.make, context={**fetching, "source_date": DATE_OF_BASE}, architecture=recipe.architecture, suite=recipe.suite,
        packages=recipe.packages, backports=recipe.backports, without=recipe.without,
    )  # fmt: skip
    board = kitchen.make(
        "kernel", kernel.make, context=fetching, architecture=recipe.architecture, suite=recipe.suite, kernel=recipe.kernel,
        from_backports=recipe.kernel_from_backports, vendor_source=recipe.vendor_source, modules=recipe.modules,
        initramfs_modules=recipe.initramfs_modules, others=("busybox-static", *dict.fromkeys(package for package, _, _ in recipe.files if package != recipe.kernel)),
    )  # fmt: skip
    ours = kitchen.make(
        "wheels", wheels.make, context=inside, architecture=recipe.architecture, lock=ROOT / "requirements/box.txt", nvr=ROOT / "nvr",
        firmware=order.firmware,
    )  # fmt: skip
    root_tree = kitchen.make(
        "root", root.make, context=inside, base=base_root, kernel=board, wheels=ours, firmware=order.firmware,
        certificate=order.trusted or signer.certificate, prune=recipe.prune, compatible=recipe.compatible, version=order.version,
        watchdog_s=recipe.watchdog_s, files=recipe.files,
    )  # fmt: skip
    root_image = kitchen.make(
        "root-image",
        slots.make_root,
        context=inside,
        root=root_tree,
        source_date=source_date,
        limit_mib=recipe.root_mib,
    )
    early = kitchen.make(
        "initramfs",
        initramfs.make,
        context=inside,
        kernel=board,
        modules=recipe.initramfs_modules,
        init=order.firmware / "boot/init",
    )
    boot = kitchen.make(
        "boot", slots.make_boot, context=inside, kernel=board, initramfs=early, console=recipe.console, device_trees=recipe.device_trees,
        config_txt=recipe.config_txt, loader=recipe.loader, source_date=source_date, size_mib=recipe.boot_mib,
    )  # fmt: skip
    selector = kitchen.make(
        "selector", disk.make_selector, context=inside, kernel=board, boot_script=order.firmware / "boot/boot.cmd", files=recipe.files,
        config_txt=recipe.config_txt, loader=recipe.loader, architecture=recipe.architecture, source_date=source_date, size_mib=recipe.selector_mib,
        state=slot_state.packed(disk.FIRST_STATE), autoboot=tryboot.text(disk.FIRST_STATE),
    )  # fmt: skip
    whole = kitchen.make(
        "disk", disk.make_disk, context=inside, selector=selector, boot=boot, root=root_image, kernel=board, files=recipe.files,
        sizes=(recipe.first_mib, recipe.selector_mib, recipe.boot_mib, recipe.root_mib, recipe.data_mib),
        is_hybrid=recipe.is_hybrid, source_date=source_date,
    )  # fmt: skip
    update = kitchen.make(
        "bundle", bundle.make, context={**inside, "signer": signer}, root=root_image, boot=boot, certificate=signer.certificate,
        compatible=recipe.compatible, version=order.version,
    )  # fmt: skip

    packages = sbom.packages_of(base_root, board, ours)
    image_path = root_image.path / "root.img"
    sizes = {
        "root": image_path.stat().st_size,
        "boot": sum(path.stat().st_size for path in (board.path / "vmlinuz", early.path / "initrd.img")),
        "disk": (whole.path / "disk.img").stat().st_size,
        "disk_written": sum(end - start for start, end in disk.mapped(whole)),
        "bundle": (update.path / "update.raucb").stat().st_size,
    }
    told = release.report(packages, kitchen.took, sizes=sizes, version=order.version, base=base_root)
    told["largest_folders"] = [
        {"path": place, "bytes": size} for size, place in release.largest_folders(root_tree.path / "tree")
    ]
    told["exposure"] = release.exposures(
        tools, root_tree.path / "tree", sorted(path.name for path in (order.firmware / "units").glob("*.service"))
    )
    listed = sbom.document(packages, name=recipe.name, version=order.version, architecture=recipe.architecture, suite=recipe.suite,
                           source_date=source_date, root_hash=release.file_hash(image_path))  # fmt: skip
    return Built(
        tools, kitchen, whole, update, root_tree, root_image, board, boot, selector, order.version, told, listed
    )


def pack(order: Order, built: Built) -> Made:
    """The files that leave the builder: packed, with block map and checksums."""
    return built.kitchen.make(
        "release", release.make, context={"toolbox": built.toolbox}, disk=built.disk, bundle=built.bundle, recipe=order.recipe.name,
        version=order.version, compression=19 if order.is_release else 3,
    )  # fmt: skip


# The base keeps no dates of its own (the root image sets one for all files); mmdebstrap wants one all the same.
DATE_OF_BASE = 1_735_689_600


def open_toolbox(kitchen: Kitchen, mirror: Mirror, architecture: str) -> Toolbox:
    foreign = toolbox.FOREIGN.get(architecture, ()) if base.is_foreign(architecture) else ()
    made = kitchen.make("toolbox", toolbox.make, context={"mirror": mirror}, packages=(*toolbox.PACKAGES, *foreign))
    return Toolbox(made.path / "tree", (kitchen.folder, ROOT))


def date_of_sources() -> int:
    """The date all files of an image get: SOURCE_DATE_EPOCH, or that of the last commit. Raises NvrError where neither is known."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdigit():
        return int(given)
    try:
        return int(run(["git", "-C", ROOT, "log", "-1", "--format=%ct"]).output)
    except (NvrError, ValueError):
        raise NvrError(
            "the date of the sources is not known: this is no checkout",
            hint="Set SOURCE_DATE_EPOCH to seconds since 1970.",
        ) from None
