"""A site file from elsewhere, tried before it is kept: when the box does not record with it, the one before comes back by itself.

    begin()    keeps the file of now beside the trial, puts the new one in its place, and asks for a start with it
    judge()    pure: by what `record` says, is it kept, given back, or not known yet?
    settle()   acts on that; a box that lost its power during the trial goes on with it once, then gives it back

DATA/site-trial.json exists while a trial goes on, DATA/site-result.json from its end until it was told. `nvr run` does it (box.py): the
process that sent for the file may be what the file breaks.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from nvr.ring.disk import write_file
from nvr.site import check_budgets, check_text
from nvr.site_settings import Site
from nvr.site_yaml import FILE_BYTES

log = logging.getLogger(__name__)

TRIAL, RESULT, RESTART = "site-trial.json", "site-result.json", "restart-request"
STEADY_S = 10.0  # so long everything must record before the file is kept
STARTS_MOST = 2  # with a file that is being tried


class TrialRefused(NvrError):
    """The new file is not even tried."""


@dataclass(frozen=True, slots=True)
class Trial:
    command: str  # of the hub
    digest: str  # SHA-256 of the new text
    before: str  # the text of the file that it replaces
    recorded: tuple[str, ...]  # streams that recorded before
    rollback_s: int
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    command: str
    digest: str
    is_kept: bool
    detail: str


def begin(
    data_dir: Path, site: Site, text: bytes, digest: str, command: str, rollback_s: int, recorded: tuple[str, ...]
) -> None:
    """Raises TrialRefused, NvrError. On return the new file is in place, and the box is asked to start with it.

    `recorded`: the streams that record now.
    """
    if hashlib.sha256(text).hexdigest() != digest:
        raise TrialRefused("the site file did not arrive as it was sent")
    if is_tried(data_dir):
        raise TrialRefused("another site file is being tried")
    checked = check_text(text, site.path)
    if checked.site is None:
        fault = checked.faults[0]
        raise TrialRefused(f"line {fault.line}, {fault.key}: {fault.what}")
    if checked.site.hub is None:
        raise TrialRefused("the new site file names no hub: nobody could take it back from afar")
    if checked.site.storage.path != site.storage.path:
        raise TrialRefused("storage.path cannot be changed from afar: what is recorded would be left behind")
    check_budgets(checked.site, data_dir)
    before = site.path.read_bytes()
    if len(before) > FILE_BYTES:
        raise TrialRefused("the site file of now is too long")
    trial = Trial(command, digest, before.decode(), recorded, rollback_s)
    write_file(data_dir / TRIAL, json.dumps(asdict(trial)).encode())
    try:
        write_file(site.path, text)
    except OSError as error:
        (data_dir / TRIAL).unlink(missing_ok=True)
        raise TrialRefused(f"{site.path} cannot be replaced: {error.strerror}") from error
    ask_restart(data_dir, "a new site file is tried")


def recording(streams: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(name for name, each in streams.items() if each.get("recording")))


def judge(trial: Trial, streams: dict[str, Any], good_for_s: float, running_s: float) -> bool | None:
    """True: kept. False: given back. None: not known yet.

    `streams`: what `record` says of each stream of the new file; `good_for_s`: since when it has been as good as now.
    """
    if is_good(trial, streams) and good_for_s >= STEADY_S:
        return True
    return False if running_s >= trial.rollback_s else None


def is_good(trial: Trial, streams: dict[str, Any]) -> bool:
    """Whether every stream records that recorded before and is still asked for; and at least one, if any did."""
    now = set(recording(streams))
    wanted = [name for name in trial.recorded if name in streams]
    return bool(streams) and all(name in now for name in wanted) and (bool(now) or not trial.recorded)


def is_tried(data_dir: Path) -> bool:
    """Whether a trial goes on."""
    return (data_dir / TRIAL).exists()


def load(data_dir: Path) -> Trial | None:
    try:
        fields = json.loads((data_dir / TRIAL).read_bytes())
        return Trial(**{**fields, "recorded": tuple(fields["recorded"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s cannot be read, no site file is being tried: %s", data_dir / TRIAL, error)
        return None


def started(data_dir: Path, site_path: Path) -> bool:
    """To be called before the site file is read: counts starts of a trial. True: the file before is back in its place."""
    trial = load(data_dir)
    if trial is None:
        return False
    if trial.starts >= STARTS_MOST:
        give_back(
            data_dir, site_path, trial, f"the box started {trial.starts} times with it and did not come to record"
        )
        return True
    write_file(data_dir / TRIAL, json.dumps(asdict(replace(trial, starts=trial.starts + 1))).encode())
    return False


def keep(data_dir: Path, trial: Trial) -> None:
    log.info("the new site file is kept")
    _end(data_dir, Result(trial.command, trial.digest, True, "it records"))


def give_back(data_dir: Path, site_path: Path, trial: Trial, why: str) -> None:
    log.error("the new site file is not kept: %s; the one before is back", why)
    write_file(site_path, trial.before.encode())
    _end(data_dir, Result(trial.command, trial.digest, False, why))


def _end(data_dir: Path, result: Result) -> None:
    write_file(data_dir / RESULT, json.dumps(asdict(result)).encode())
    (data_dir / TRIAL).unlink(missing_ok=True)


def result(data_dir: Path) -> Result | None:
    """How the last trial ended, until it was told."""
    try:
        return Result(**json.loads((data_dir / RESULT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def forget_result(data_dir: Path) -> None:
    (data_dir / RESULT).unlink(missing_ok=True)


def ask_restart(data_dir: Path, why: str) -> None:
    """Have `nvr run` start its processes anew with the site file as it is then."""
    write_file(data_dir / "run" / RESTART, why.encode())


def restart_asked(data_dir: Path) -> str:
    """Why, once; "" when nobody did."""
    path = data_dir / "run" / RESTART
    try:
        why = path.read_text()[:200]
        path.unlink()
    except (OSError, ValueError):
        return ""
    return why or "asked"
