"""The last site file that recorded, kept in DATA: a box whose site file has become faulty goes on with it, and says so.

    keep()        by `nvr run`, once a site file has recorded for a while
    start_with()  the site to start with: the file's, or the one before a trial, or the one that was kept
    in_force()    the same for the other processes, which are told which one it is

DATA/site-kept.yaml is the text as it was behind one line that names the file it came from: no other site file is ever replaced by it.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from nvr import site_keys, site_trial
from nvr.errors import NvrError
from nvr.ring.disk import write_file
from nvr.site import SiteFaulty, check_text, load
from nvr.site_budget import BudgetTooLarge, DiskAbsent, budget, check_budgets
from nvr.site_settings import Site
from nvr.site_yaml import FILE_BYTES

log = logging.getLogger(__name__)

KEPT = "site-kept.yaml"
_HEAD = "# Kept by `nvr run`: the last text that recorded, of "


@dataclass(frozen=True, slots=True)
class Kept:
    text: bytes
    at_s: float  # when it was kept, by the box's clock


@dataclass(frozen=True, slots=True)
class Start:
    """What a box starts with."""

    site: Site
    data_dir: Path
    fault: str = ""  # why the site file is not in force as it is; "" when it is
    is_kept: bool = False  # `site` is the one that was kept, and not what the file says


def keep(data_dir: Path, site_path: Path, text: bytes) -> bool:
    """True when it was another text than the one kept before. Raises OSError."""
    before = kept(data_dir, site_path)
    if before is not None and before.text == text:
        return False
    write_file(data_dir / KEPT, _head(site_path) + text)
    return True


def _head(site_path: Path) -> bytes:
    return f"{_HEAD}{json.dumps(str(site_path.absolute()))}\n".encode()


def kept(data_dir: Path, site_path: Path) -> Kept | None:
    """What was kept of this site file; None where nothing was, or nothing can be read."""
    try:
        with open(data_dir / KEPT, "rb") as file:
            data = file.read(FILE_BYTES + 4096)
            at_s = (data_dir / KEPT).stat().st_mtime
    except OSError:
        return None
    head = _head(site_path)
    return Kept(data.removeprefix(head), at_s) if data.startswith(head) else None


def kept_site(data_dir: Path, site_path: Path) -> Site | None:
    """The site that was kept, if it can still be used; names in it start from where the site file lies."""
    found = kept(data_dir, site_path)
    return None if found is None else check_text(found.text, site_path).site


def in_force(site_path: Path, data_dir: Path, *, is_kept: bool = False) -> Site:
    """For a process of a box that runs. `is_kept`: the box was started with the site that was kept. Raises NvrError."""
    if not is_kept:
        try:
            return load(site_path)
        except NvrError:
            found = kept_site(data_dir, site_path)
            if found is None:
                raise
            return found
    found = kept_site(data_dir, site_path)
    return load(site_path) if found is None else found


def start_with(site_path: Path, data_dir: Path | None, *, is_box: bool = True) -> Start:
    """Raises NvrError where nothing can be recorded: a faulty file with none before it that recorded, or no disk.

    `is_box` False: somebody waits for the end, and is told instead. A file that recorded before and does not fit its disk any more
    goes on: its rings are there.
    """
    try:
        site = load(site_path)
        place = data_dir or site.storage.path
        check_budgets(site, place)
        return Start(site, place)
    except DiskAbsent:
        raise
    except NvrError as error:
        if not is_box:
            raise
        place = data_dir or storage_path(site_path)
        return _start_in_spite_of(error, site_path, place)


def _start_in_spite_of(error: NvrError, site_path: Path, data_dir: Path) -> Start:
    trial = site_trial.load(data_dir)
    if trial is not None:
        site_trial.give_back(data_dir, site_path, trial, str(error))
        return start_with(site_path, data_dir)
    site = kept_site(data_dir, site_path)
    if site is None:
        raise error
    budget(site, data_dir)  # raises DiskAbsent: it may come
    found = kept(data_dir, site_path)
    is_the_same = isinstance(error, BudgetTooLarge) and found is not None and _is_text_of(site_path, found.text)
    goes_on = (
        "it is recorded all the same, because it was before"
        if is_the_same
        else "not in force, the box records with the last file that recorded"
    )
    return Start(site, data_dir, f"{fault_words(error)}; {goes_on}", is_kept=not is_the_same)


def fault_words(error: NvrError) -> str:
    """One line of it, for people who see it among other things."""
    if isinstance(error, SiteFaulty) and error.faults:
        fault, more = error.faults[0], len(error.faults) - 1
        where = f"line {fault.line}{f', {fault.key}' if fault.key else ''}"
        return f"{where}: {fault.what}{f' (and {more} more)' if more else ''}"
    return str(error).partition("\n")[0]


def _is_text_of(site_path: Path, text: bytes) -> bool:
    try:
        return site_path.read_bytes() == text
    except OSError:
        return False


_PATH_OF_STORAGE = re.compile(
    r"""^storage:[ \t]*(?:\{[^}\n]*?|(?:\#.*)?\n(?:[ \t]+.*\n)*?[ \t]+)\bpath:[ \t]*["']?([^"'\n,}\#]+)""", re.M
)


def storage_path(site_path: Path) -> Path:
    """Where a faulty site file keeps its data, as far as it can be read; else where one keeps it that does not say."""
    try:
        with open(site_path, "rb") as file:
            match = _PATH_OF_STORAGE.search(file.read(FILE_BYTES).decode("utf-8", "replace"))
    except OSError:
        match = None
    default = next(str(key.default) for key in site_keys.STORAGE if key.name == "path")
    return site_path.absolute().parent / Path(match[1].strip() if match else default).expanduser()
