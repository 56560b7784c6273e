"""Whether what runs in a slot has proved itself: what it must do, how that is judged, and what follows.

A new slot is committed when every stream that recorded before the update records again and, where a hub is configured that was
reached before, the uplink talks. What was true before is written down by `update.py` when an installation begins. A slot that
does not get there within its patience is given up and the other one is started, if that one ever proved itself; the reason is kept
where heartbeat and page find it. A slot that had proved itself only has to start `record` again, whatever the cameras do:
a power failure that took the cameras along is no reason to change anything.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from firmware import slot_state, slots, tryboot
from nvr import systemd
from nvr.announce import SOCKET_NAME as ANNOUNCE
from nvr.announce import Subscriber
from nvr.clock import boot_id

log = logging.getLogger(__name__)

UNHEARD_BOUND_S = 900.0  # a committed slot in which nothing starts: a damaged root, not a slow camera
STEADY_S = 10.0  # recording for so long at a stretch; one that restarts every few seconds is not recording
ASK_S = 1.0
UPDATE_DIR = Path("/data/update")
BEFORE, LAST, BOOTS = "before.json", "last.json", "boots.jsonl"
BOOTS_BYTES = 64_000
ORDER = "updates/ready.json"  # of the hub, below DATA (nvr/uplink/bundles.py)
CUT = "the power failed, or the box was restarted, while it was being installed"
UPLINK_OLD_S = 60.0


@dataclass(frozen=True, slots=True)
class Before:
    """What was true when the installation began."""

    version: str = ""
    streams: tuple[str, ...] = ()  # those that recorded
    uplink: bool = False  # a hub is configured and was reached


@dataclass(frozen=True, slots=True)
class Now:
    """What is true now; None where nothing was heard."""

    recording: dict[str, bool] | None = None
    why_not: dict[str, str] = field(default_factory=dict)
    uplink: bool | None = None


def missing(before: Before, now: Now) -> list[str]:
    """What a new slot still owes, in words; empty when it has proved itself."""
    if now.recording is None:
        return ["record does not answer"]
    owed = [
        f"{stream} does not record ({now.why_not.get(stream) or 'it is not there'})"
        for stream in before.streams
        if not now.recording.get(stream)
    ]
    if before.uplink and not now.uplink:
        owed.append("the hub was reached before and is not reached now")
    return owed


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a new slot may take: the longer of the two. A drop-in of nvr-slot-good.service may say otherwise."""

    bound_s: float = 300.0  # cameras on the same power strip need up to two minutes to boot, a mobile uplink one more
    starts: float = 5.0  # times what the start took: an emulated board on a busy machine is slow in everything

    def ends_s(self, start_s: float) -> float:
        """`start_s` is what it took from the kernel's first word until the slot is judged."""
        return max(self.bound_s, self.starts * start_s)

    @classmethod
    def told(cls, environment: Mapping[str, str]) -> Patience:
        """NVR_GATE_BOUND_S and NVR_GATE_STARTS; whatever is no positive number leaves the default, and is logged."""
        found = cls()
        for name, key in (("bound_s", "NVR_GATE_BOUND_S"), ("starts", "NVR_GATE_STARTS")):
            text = environment.get(key, "")
            try:
                value = float(text) if text else getattr(found, name)
                if not 0 < value < 86_400:
                    raise ValueError
            except ValueError:
                log.error("%s=%s is no positive number of at most a day: %s stays", key, text, getattr(found, name))
                continue
            found = replace(found, **{name: value})
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    action: str  # "commit", "wait", "return" or "stay"
    reason: str = ""


def verdict(
    state: slot_state.State, slot: str, owed: list[str], waited_s: float, steady_s: float, bound_s: float
) -> Verdict:
    """What to do now. `steady_s`: for how long nothing has been owed; `bound_s`: how long a new slot may take."""
    is_old = state.good(slot)
    if not owed and (is_old or steady_s >= STEADY_S):
        return Verdict("commit")
    if waited_s < max(bound_s, UNHEARD_BOUND_S if is_old else 0):
        return Verdict("wait")
    reason = f"not within {waited_s:.0f} s: {'; '.join(owed) or 'it does not stay so'}"
    return Verdict("return" if slot_state.can_return(state, slot) else "stay", reason)


# -- the edge ----------------------------------------------------------------------------------------


class Listener:
    """Hears from `record`, and reads the uplink's word, through whatever starts and ends meanwhile."""

    def __init__(self, data_dir: Path) -> None:
        self._run_dir = data_dir / "run"
        self._subscriber: Subscriber | None = None
        self._status: dict[str, Any] | None = None
        self._heard_s = float("-inf")

    def now(self) -> Now:
        """Waits up to ASK_S for news."""
        until_s = time.monotonic() + ASK_S
        try:
            if self._subscriber is None:
                self._subscriber = Subscriber(self._run_dir, ANNOUNCE)
            while (left_s := until_s - time.monotonic()) > 0:
                message = self._subscriber.receive(left_s)
                if message is not None and message.get("kind") == "status":
                    self._status, self._heard_s = message, time.monotonic()
        except (OSError, ValueError):
            if self._subscriber is not None:
                self._subscriber.close()
            self._subscriber = None
            time.sleep(max(0.1, until_s - time.monotonic()))
        if self._status is None or time.monotonic() - self._heard_s > 10:
            return Now(uplink=self._uplink())
        streams = self._status.get("streams", {})
        return Now(
            {name: bool(told.get("recording")) for name, told in streams.items()},
            {name: str(told.get("detail") or told.get("cause") or "")[:200] for name, told in streams.items()},
            self._uplink(),
        )

    def _uplink(self) -> bool | None:
        """DATA/run/uplink.json; None where there is none.

        The file outlives a restart. What the uplink of the other slot said half a minute ago, before this start, is no word of this one's: a
        slot that could not reach the hub was committed by it. So it counts only with this boot's id, and by the clock that no boot shares.
        """
        try:
            told = json.loads((self._run_dir / "uplink.json").read_bytes())
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - told["mono_ms"] / 1000
            is_of_now = told.get("boot_id") == boot_id().hex() and age_s < UPLINK_OLD_S
            return bool(told.get("connected")) and is_of_now
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None


def read_before(folder: Path = UPDATE_DIR) -> Before:
    """What the installation wrote down; nothing is owed where it wrote nothing."""
    told = kept(folder, BEFORE)
    try:
        return Before(str(told["version"]), tuple(map(str, told["streams"])), bool(told["uplink"]))
    except (KeyError, TypeError):
        return Before()


def kept(folder: Path, name: str) -> dict[str, Any]:
    """What keep() put there; {} where there is nothing, or nothing that can be read."""
    try:
        return dict(json.loads((folder / name).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def keep(folder: Path, name: str, value: Any) -> None:
    """Put a value into a file as a whole, durable on return."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{name}.new"
    with open(draft, "w") as file:
        json.dump(value, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / name)
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def note_boot(folder: Path, line: dict[str, Any]) -> None:
    """Add to the list of boots; its older half goes when it is too long."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / BOOTS
    try:
        lines = path.read_text().splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError):
        lines = []
    lines.append(json.dumps(line, ensure_ascii=False))
    if sum(map(len, lines)) > BOOTS_BYTES:
        lines = lines[len(lines) // 2 :]
    draft = path.with_suffix(".new")
    draft.write_text("\n".join(lines) + "\n")
    draft.replace(path)


def version_of_this_slot() -> str:
    try:
        return Path("/usr/lib/nvr/version").read_text().strip()
    except OSError:
        return "unknown"


def run(
    data_dir: Path,
    site_path: Path,
    folder: Path = UPDATE_DIR,
    selector: Path = slots.SELECTOR,
    patience: Patience = Patience(),
) -> int:
    """Judge the running slot until it is committed, or given up and the box restarts."""
    slot = slots.booted_slot()
    state = slots.read_or_new(selector)
    before = read_before(folder)
    here = {"slot": slot, "version": version_of_this_slot(), "wall_ms": time.time_ns() // 1_000_000}
    note_boot(folder, {"what": "started", **here, "left": state.left(slot), "good": state.good(slot)})
    if not slot:
        log.error("the bootloader did not say which slot this is: nothing is judged")
        return 1
    _explain_return(folder, slot, state, selector, data_dir)
    listener = Listener(data_dir)
    started_s = steady_since_s = time.monotonic()
    bound_s = patience.ends_s(time.clock_gettime(time.CLOCK_BOOTTIME))
    while True:
        now = (
            listener.now() if site_path.exists() else Now({}, {}, None)
        )  # a box that nobody told what to record owes nothing
        owed = missing(before if not state.good(slot) else Before(), now)
        now_s = time.monotonic()
        if owed:
            steady_since_s = now_s
        judged = verdict(state, slot, owed, now_s - started_s, now_s - steady_since_s, bound_s)
        systemd.notify(STATUS=judged.reason or "; ".join(owed) or "proving itself")
        if judged.action == "wait":
            continue
        if judged.action == "commit":
            was_new = not state.good(slot)
            slots.write(slot_state.committed(slots.read_or_new(selector), slot), selector)
            took_s = round(now_s - started_s, 1)
            note_boot(folder, {"what": "committed", **here, "after_s": took_s})
            if was_new:
                keep(folder, LAST, {"state": "committed", **here, "reason": "", "owed": len(before.streams)})
            log.info("slot %s (%s) is committed after %.0f s", slot, here["version"], took_s)
            _tell_console(f"nvr: slot {slot} committed after {took_s:.0f} s")
            return 0
        note_boot(folder, {"what": judged.action, **here, "reason": judged.reason})
        keep(folder, LAST, {"state": judged.action, **here, "reason": judged.reason, "before": asdict(before)})
        _tell_console(f"nvr: slot {slot} not committed, {judged.action}: {judged.reason}")
        if judged.action == "stay":
            log.error("slot %s did not prove itself and the other one never did: staying. %s", slot, judged.reason)
            started_s = time.monotonic()  # and judged again: what is missing may come back
            time.sleep(60)
            continue
        log.error("slot %s is given up, the other one is started: %s", slot, judged.reason)
        slots.write(slot_state.given_up(slots.read_or_new(selector), slot), selector)
        slots.restart(selector)
        return 1


def _explain_return(folder: Path, slot: str, state: slot_state.State, selector: Path, data_dir: Path) -> None:
    """After the bootloader gave up the other slot by itself, or the power failed in the middle, nobody there could write down why."""
    last = kept(folder, LAST)
    if last.get("state") == "installing":
        if last.get("slot") == slot:
            return  # it was written to its end, or it would not run: the power failed before that was noted
        if not (data_dir / ORDER).exists():  # update.py tries again what the hub ordered
            keep(folder, LAST, {**last, "state": "refused", "reason": CUT, "wall_ms": time.time_ns() // 1_000_000})
        return
    by_firmware = last.get("state") == "restarting" and (selector / tryboot.NAME).exists()
    if (
        last.get("state") in ("installed", "restarting")
        and last.get("slot") == slot_state.other(slot)
        and (by_firmware or state.left(last["slot"]) == 0)
    ):
        times = "once" if by_firmware else f"{slot_state.ATTEMPTS} times"
        reason = f"slot {last['slot']} was started {times} and did not get as far as judging itself"
        slots.write(slot_state.given_up(state, last["slot"]), selector)
        keep(folder, LAST, {**last, "state": "return", "reason": reason, "wall_ms": time.time_ns() // 1_000_000})
        note_boot(
            folder, {"what": "return", "slot": last.get("slot"), "version": last.get("version"), "reason": reason}
        )
        _tell_console(f"nvr: returned to slot {slot}: {reason}")


def _tell_console(text: str) -> None:
    try:
        with open("/dev/console", "w") as console:
            console.write(f"\n{text}\n")
    except OSError:
        pass  # a box without one


def main() -> int:
    systemd.set_up_logging("slot-good")
    data_dir = Path(os.environ.get("NVR_DATA", "/data/nvr"))
    site_path = Path(os.environ.get("NVR_GIVEN", "/data/site/site.yaml"))
    return run(data_dir, site_path, patience=Patience.told(os.environ))


if __name__ == "__main__":
    raise SystemExit(main())
