"""Builds the hub's pages: nvr/hub/pages/src -> nvr/hub/pages/built. `make setup` and `make pages` run it.

Uses the node of the machine where there is one that is new enough, else one from the Python package index (requirements/node.txt), in .venv.
Packages come as nvr/hub/pages/package-lock.json says, by version and checksum. Nothing is done when what is built is up to date.
Without pages the hub runs all the same and says how to build them; so a failure here never fails `make setup`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "nvr" / "hub" / "pages"
BUILT = PAGES / "built"
STAMP = BUILT / "made-from"
PLAYER = ROOT / "nvr" / "web" / "page"  # the player that both pages share
NODE_LOCK = ROOT / "requirements" / "node.txt"
NODE_LEAST = (20, 19)  # Vite's own bound
LIMIT_S = 600


class PagesFailed(Exception):
    """What happened, and behind a newline what to do."""


def fingerprint() -> str:
    """Changes when the pages must be built anew."""
    digest = hashlib.sha256()
    sources = [
        path
        for path in PAGES.rglob("*")
        if path.is_file() and not {"node_modules", "built", "__pycache__"} & set(path.relative_to(PAGES).parts)
    ]
    for path in sorted((*sources, PLAYER / "player.js", PLAYER / "mp4.js")):
        if path.suffix != ".py":
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest() + "\n"


def version_of(node: str) -> tuple[int, ...]:
    """(22, 12, 0); () when it does not run."""
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", told)[:3])


def node_folder(venv: Path) -> Path:
    """Where a fitting `node` and its `npm` are. Raises PagesFailed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and version_of(node)[:2] >= NODE_LEAST:
        return Path(node).parent
    inside = venv / "bin"
    if version_of(str(inside / "node"))[:2] < NODE_LEAST:
        print("this machine has no node.js that is new enough: fetching one into .venv (once, 100 MB)", flush=True)
        pip = [
            str(inside / "python"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "install",
            "--quiet",
            "--require-hashes",
        ]
        run([*pip, "--only-binary", ":all:", "-r", str(NODE_LOCK)], "node.js could not be fetched")
    return inside


def run(arguments: list[str], trouble: str, folder: Path = ROOT, path: Path | None = None) -> None:
    environment = {**os.environ, "CI": "1", "NO_COLOR": "1"}
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment.get('PATH', '')}"
    try:
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise PagesFailed(f"{trouble}: not finished within {LIMIT_S} s.\nTry again: make pages") from None
    except OSError as error:
        raise PagesFailed(f"{trouble}: {error}.\nTry again: make pages") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise PagesFailed(f"{trouble}:\n{words}\nConnect to the network and run: make pages")


def build(venv: Path) -> None:
    """What is built is whole, or what was there before. Raises PagesFailed."""
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    folder = node_folder(venv)
    npm = str(folder / "npm") if (folder / "npm").exists() else "npm"
    print("building the hub's pages (half a minute)", flush=True)
    run(
        [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        "the packages of the hub's pages could not be fetched",
        PAGES,
        folder,
    )
    STAMP.unlink(missing_ok=True)
    run([npm, "run", "build"], "the hub's pages could not be built", PAGES, folder)
    STAMP.write_text(wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--lenient", action="store_true", help="a failure is told and is no failure, for `make setup`")
    options = parser.parse_args()
    try:
        build(options.venv)
    except PagesFailed as failure:
        print(f"\nmake pages: {failure}", file=sys.stderr)
        if options.lenient:
            print("Everything else is ready; the hub runs without its pages.", file=sys.stderr)
            return 0
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
