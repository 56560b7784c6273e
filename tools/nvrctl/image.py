"""`nvrctl image`: build disk images and update bundles from recipes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from nvr.errors import NvrError
from tools.nvrctl.image_look import check, show

ROOT = Path(__file__).resolve().parents[2]
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def image() -> None:
    """Build disk images and update bundles.

    \b
    Examples:
        nvrctl image ls
        nvrctl image build virt-x86
        nvrctl image report build/virt-x86
    """


image.add_command(show)
image.add_command(check)


def _find_builder() -> None:
    """Makes `image/` importable, which comes with a checkout only and is no installed package. Raises NvrError."""
    if not (ROOT / "image" / "__init__.py").is_file():
        raise NvrError(
            "images are built in a checkout of nvr; this nvrctl was installed without one",
            hint="git clone it, run `make setup` there, then .venv/bin/nvrctl image build RECIPE",
        )
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


@image.command("build")
@click.argument("recipe")
@click.option("-o", "--output", "output", type=FOLDER, help="Where the results go (default build/RECIPE).")
@click.option(
    "--cache", type=FOLDER, help="Where finished steps are kept (default ~/.cache/nvr-image, or NVR_IMAGE_CACHE)."
)
@click.option(
    "--mirror", default="", metavar="URL", help="Debian's archive, instead of the one this machine's apt uses."
)
@click.option("--security-mirror", default="", metavar="URL", help="Debian's security archive.")
@click.option("--version", default="", help="Version of the bundle (default: that of nvr).")
@click.option(
    "--release", "is_release", is_flag=True, help="For boxes outside: refuses the development key, packs tighter."
)
@click.option("--key", type=FILE, help="Private key that signs the bundle.")
@click.option("--certificate", type=FILE, help="Its certificate.")
@click.option("--trusted", type=FILE, help="Certificates that boxes accept bundles from (default: the signer's).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def build_command(
    context: click.Context, recipe: str, output: Path | None, cache: Path | None, mirror: str, security_mirror: str, version: str,
    is_release: bool, key: Path | None, certificate: Path | None, trusted: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Build the image that RECIPE describes, and the bundle that updates to it.

    RECIPE is a file, or the name of one that comes with nvr. What was built before and did not change is taken from the cache.

    \b
    Example:
        nvrctl image build virt-x86 -o out
    """
    _find_builder()
    from image import build, keys, release
    from image import recipe as recipes
    from nvr import __version__

    if (key is None) != (certificate is None):
        raise click.UsageError("--key and --certificate belong together.")
    try:
        order = build.Order(
            recipes.load(recipes.recipe_path(recipe)),
            cache=cache or build.CACHE,
            mirror=mirror,
            security_mirror=security_mirror,
            version=version or __version__,
            is_release=is_release,
            signer=keys.Signer(key.absolute(), certificate.absolute()) if key and certificate else None,
            trusted=trusted,
        )
        built = build.build(order, tell=lambda line: click.echo(line, err=as_json))
        files = release.hand_out(
            build.pack(order, built), output or Path("build") / order.recipe.name, built.report, built.sbom
        )
    except NvrError as error:
        if as_json:
            click.echo(json.dumps({"error": str(error), "hint": error.hint}))
        click.echo(f"nvrctl: {error}", err=True)
        if error.hint:
            click.echo(f"        {error.hint}", err=True)
        context.exit(1)
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in files], **built.report}))
        return
    _print_report(built.report)
    for path in files:
        click.echo(f"  {path}")
    click.echo(f"Next: write {order.recipe.name}.img.zst to a card, put site.yaml into its folder `site`.")


@image.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls_command(as_json: bool) -> None:
    """List the recipes that come with nvr.

    \b
    Example:
        nvrctl image ls
    """
    _find_builder()
    from image import recipe as recipes

    found = []
    for path in sorted(recipes.RECIPES.glob("*.yaml")):
        if path.stem != "appliance":
            each = recipes.load(path)
            found.append(
                {"name": each.name, "board": each.board, "architecture": each.architecture, "loader": each.loader}
            )
    if as_json:
        click.echo(json.dumps(found))
        return
    for each in found:
        click.echo(f"{each['name']:<12} {each['architecture']:<6} {each['loader']:<8} {each['board']}")


@image.command("report")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report_command(folder: Path, as_json: bool) -> None:
    """Show what a build took, how large everything is, and what takes the room.

    \b
    Example:
        nvrctl image report build/virt-x86
    """
    try:
        text = (folder / "report.json").read_text()
    except FileNotFoundError as error:
        raise NvrError(
            f"{folder} holds no report.json: no image was built there",
            hint="Give the folder that `nvrctl image build` wrote to, such as build/virt-x86.",
        ) from error
    if as_json:
        click.echo(text.rstrip())
        return
    _print_report(json.loads(text), is_long=True)


def _print_report(report: dict, *, is_long: bool = False) -> None:
    sizes = report["sizes_bytes"]
    click.echo("  ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))
    if not is_long:
        return
    for step in report["steps"]:
        click.echo(f"  {step['name']:<12} {step['seconds']:7.1f} s{'  (from the cache)' if step['was_cached'] else ''}")
    click.echo(f"{report['packages']} packages; the largest, as installed:")
    for each in report["largest_packages"]:
        click.echo(f"  {each['installed_kib'] / 1000:7.1f} MB  {each['name']}")
    click.echo("largest folders of the root, after pruning:")
    for each in report["largest_folders"]:
        click.echo(f"  {each['bytes'] / 1e6:7.1f} MB  {each['path']}")
