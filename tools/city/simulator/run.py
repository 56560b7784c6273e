"""One simulation from beginning to end: `python -m tools.city simulate`. Real time; the exit status is 1 when footage was lost quietly."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from nvr.clock import SystemClock
from tools.city import city as city_room
from tools.city import day, films
from tools.city.city import Box, City, Place
from tools.city.light_box import ALARMS
from tools.city.simulator import footage, sheet, truth, watch
from tools.city.simulator import script as scripts
from tools.city.simulator.edge import NoCompiler, library
from tools.city.simulator.score import (
    AlarmScore,
    Asked,
    ClipSeen,
    Score,
    ToldAlarm,
    of_alarms,
    of_camera,
    of_clips,
    of_heartbeats,
)
from tools.city.simulator.script import Fault, Script
from tools.city.simulator.truth import Alarm, Done
from tools.city.simulator.world import World
from tools.city.story import Story
from tools.demo import DemoFailed

LOOK_EVERY_S = 2.0
READY_S = 300.0  # until every real camera is recorded, on a machine that does other things too
SETTLE_S = 120.0  # until everything that is owed lies at the hub
OTHER_SIZE = (320, 192)


class SimulationFailed(Exception):
    """It did not get as far as a score."""


def films_in(folder: Path, length_s: int) -> list[str]:
    """FILE+FILE for tools.camera: four films, each with one of another size behind it. Drawn once; longer than the simulation, because what begins again is a loop."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {place.name: place for place in city_room.load().places}
    found = []
    for name, place, camera in films.FILMS:
        path, other = folder / f"{name}-{length_s}.mp4", folder / f"{name}-{length_s}-other.mp4"
        if not path.exists():
            films.draw(path, places[place], camera, length_s)
        if not other.exists():
            films.draw(other, places[place], camera, min(length_s, 45), size=OTHER_SIZE)
        found.append(f"{path}+{other}")
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    city: City
    real: list[Box]
    light: list[Box]
    script: Script


def plan(seed: int, length_s: float, real_boxes: int, boxes: int) -> Plan:
    city = city_room.load()
    if boxes:
        city = replace(city, boxes=city.boxes[:boxes])
    real, light = list(city.boxes[:real_boxes]), list(city.boxes[real_boxes:])
    names = {box.name: [name for name, _ in box.cameras] for box in real}
    return Plan(city, real, light, scripts.draw(seed, float(length_s), names, [box.name for box in light]))


class Simulation:
    def __init__(self, plan: Plan, world: World, watcher: watch.Watch) -> None:
        self.plan, self.world, self.watch = plan, world, watcher
        self.done: list[Done] = []
        self.from_s = self.to_s = 0.0
        self._open: dict[Fault, float] = {}

    def run(self) -> None:
        """Wait until everything records, do what the script says, wait until what is owed has arrived. Raises SimulationFailed."""
        self._until(self._is_ready, READY_S, "every real camera is recorded, and every box heard")
        self.from_s = time.time()
        script = self.plan.script
        actions = [(fault.at_s, 1, fault) for fault in script.faults] + [
            (fault.end_s, 0, fault) for fault in script.faults
        ]
        for at_s, is_begin, fault in sorted(actions, key=lambda action: action[:2]):
            self._wait_until(self.from_s + at_s)
            now_s = time.time()
            if is_begin:
                _say(f"{at_s:6.1f} s  {fault.kind} {fault.how} {fault.target}".rstrip() + f", for {fault.for_s:g} s")
                self._open[fault] = now_s
                self.world.begin(fault)
            else:
                self.world.finish(fault)
                self.done.append(Done(fault, self._open.pop(fault), time.time()))
        self._wait_until(self.from_s + script.length_s)
        self.to_s = time.time()
        _say("the measured time is over; what is owed to the hub is waited for")
        with contextlib.suppress(SimulationFailed):  # what is missing then is scored
            self._until(self._is_settled, SETTLE_S, "everything owed has arrived")

    def _is_ready(self) -> bool:
        recorded = {name for look in self.watch.seen for name, is_recording in look.recording.items() if is_recording}
        heard = {look.box for look in self.watch.seen}
        real = {name for box in self.plan.real for name, _ in box.cameras}
        return real <= recorded and heard >= {box.name for box in self.plan.city.boxes}

    def _is_settled(self) -> bool:
        return all(wish.is_over for wish in self.watch.wishes) and not any(self.watch.waiting.values())

    def _until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        end_s = time.time() + seconds
        while not holds():
            if time.time() > end_s:
                raise SimulationFailed(f"not within {seconds:g} s: {what}")
            self._turn()

    def _wait_until(self, at_s: float) -> None:
        while time.time() < at_s:
            self._turn(at_s)

    def _turn(self, at_s: float = math.inf) -> None:
        """Look at the hub, put what is due to it, keep the boxes running; until the next look, or `at_s`."""
        now_s = time.time()
        self.world.look_after(now_s)
        if self.from_s:
            put = len(self.watch.wishes)
            for ask in self.plan.script.asks[put:]:
                if self.from_s + ask.at_s <= now_s:
                    self.watch.wishes.append(watch.Wish(ask, self.from_s + ask.from_s, self.from_s + ask.to_s))
        self.watch.look(time.time())
        time.sleep(max(0.0, min(now_s + LOOK_EVERY_S, at_s) - time.time()))

    # -- the score

    def score(self) -> Score:
        """When nothing runs any more."""
        held = watch.held(self.world.folder / "hub")
        cameras, faults, clips = [], [], []
        now = SystemClock().read()
        recorded: dict[str, footage.Account] = {}
        # Whole seconds; the first and the last are not whole.
        from_s, to_s = math.ceil(self.from_s), math.floor(self.to_s)
        for box in self.plan.real:
            real = self.world.boxes[box.name]
            lines = self.world.cameras[box.name].sent_path.read_text().splitlines()
            sent = truth.sent_of(lines)
            found = footage.accounts(real.data_dir, from_s * 10**9, to_s * 10**9, now)
            recorded.update(found)
            faults += footage.check_faults(box.name, real.data_dir)
            for camera in real.cameras:
                account = found.get(camera, footage.Account((), {}))
                windows = truth.windows(self.done, camera, box.name)
                silences = truth.silences(self.done, camera, box.name)
                cameras.append(
                    of_camera(
                        camera, account.parts, account.pictures, windows, sent.get(camera), silences, from_s, to_s
                    )
                )
        for clip in held.clips:
            draft = self.world.folder / "clip.mp4"
            result = footage.held_against(
                clip.data, clip.sha256, self.world.boxes[clip.box].data_dir, clip.camera, clip.public_key, draft
            )
            clips.append(ClipSeen(clip.camera, clip.sha256, *result, clip.from_s, clip.to_s, clip.command, clip.event))
        asked = [
            Asked(
                wish.ask.camera,
                wish.from_s,
                wish.to_s,
                wish.command,
                wish.state,
                wish.detail,
                _is_there(recorded, wish),
            )
            for wish in self.watch.wishes
        ]
        names = {box.name: [name for name, _ in box.cameras] for box in self.plan.real}
        everybody = {**names, **{box.name: [] for box in self.plan.light}}
        seen = [look for look in self.watch.seen if self.from_s <= look.at_s < self.to_s]
        return Score(
            cameras, faults, self._real_alarms(held, names), self._light_alarms(held),
            of_clips(clips, asked, held.owed), of_heartbeats(seen, self.done, everybody),
        )  # fmt: skip

    def _real_alarms(self, held: watch.Held, names: dict[str, list[str]]) -> AlarmScore:
        due = truth.camera_alarms(self.done, names)
        told = self._told(held, set(names), {("camera", "down"), ("tamper", "frozen")})
        # A box that starts, and one whose disk fails, may say that its cameras are gone; what is looked for here is an alarm out of nothing.
        excused = [
            Alarm(camera, kind, state, window.from_s, window.to_s, is_sure=False)
            for box, cameras in names.items()
            for camera in cameras
            for window in truth.windows(self.done, camera, box)
            if window.from_s > 0
            for kind, state in (("camera", "down"), ("tamper", "frozen"))
        ]
        return of_alarms([*due, *excused], told, self._heard([*due, *excused]))

    def _light_alarms(self, held: watch.Held) -> AlarmScore:
        story = Story(self.world.story_s, self.plan.city.time_zone)
        story.outages = lambda box, story_s: False
        places: dict[str, Place] = {}
        boxes: dict[str, str] = {}
        for box in self.plan.light:
            for name, place in box.cameras:
                places[name], boxes[name] = place, box.name
        away = {box.name: truth.cut_offs(self.done, box.name) for box in self.plan.light}

        def alarms(camera: str, at_s: float) -> Iterable[tuple[str, str]]:
            place = places[camera]
            for state in story.states(place, story.scene(place, camera, at_s), at_s):
                if (state.kind, state.state) in KINDS or (state.kind, state.state) == ("service_open", day.CLOSED):
                    yield state.kind, state.state

        def is_cut_off(camera: str, at_s: float) -> bool:
            return truth.is_within(away[boxes[camera]], at_s, after_s=10.0)

        due = truth.story_alarms(alarms, places, self.world.story_s, self.to_s, is_cut_off)
        told = self._told(held, {box.name for box in self.plan.light}, {*KINDS, ("service_open", day.CLOSED)})
        return of_alarms(due, [each for each in told if each.received_s < self.to_s], self._heard(due))

    def _told(self, held: watch.Held, boxes: set[str], kinds: set[tuple[str, str]]) -> list[ToldAlarm]:
        return [alarm for box, alarm in held.alarms if box in boxes and (alarm.kind, alarm.state) in kinds]

    def _heard(self, due: Iterable[Alarm]) -> dict[Alarm, bool]:
        boxes = {name: box.name for box in self.plan.city.boxes for name, _ in box.cameras}
        away = {box: truth.cut_offs(self.done, box) for box in set(boxes.values())}
        return {
            alarm: not any(
                begin_s < alarm.from_s + 30 and alarm.from_s < end_s + truth.AGAIN_S
                for begin_s, end_s in away[boxes[alarm.camera]]
            )
            for alarm in due
        }


KINDS = frozenset(ALARMS | {("tamper", "covered"), ("tamper", "frozen"), ("tamper", "dark")})


def _is_there(recorded: dict[str, footage.Account], wish: watch.Wish) -> bool:
    account = recorded.get(wish.ask.camera)
    return account is not None and any(
        part.cause is None and part.from_ns < wish.to_s * 1e9 and wish.from_s * 1e9 < part.to_ns
        for part in account.parts
    )


def _say(text: str) -> None:
    print(text, flush=True)


def main(options: argparse.Namespace) -> int:
    length_s = options.minutes * 60
    try:
        planned = plan(options.seed, length_s, options.real_boxes, options.boxes)
    except ValueError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 3
    if options.script_only:
        _say("\n".join([*sheet.script_lines(planned.script), *sheet.timetable(planned.script)]))
        return 0
    folder = options.data or Path(tempfile.mkdtemp(prefix="nvr-city-"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: everything that was started is ended
    try:
        return _simulate(planned, folder, options.json)
    except (SimulationFailed, DemoFailed, NoCompiler) as failure:
        print(f"simulate: {failure}\nEverything lies in {folder}.", file=sys.stderr)
        options.data = folder  # somebody will want to look
        return 3
    except KeyboardInterrupt:
        return 130
    finally:
        if options.data is None:
            shutil.rmtree(folder, ignore_errors=True)


def _simulate(planned: Plan, folder: Path, json_path: Path | None) -> int:
    films_dir = folder / "films"
    for each in folder.iterdir() if folder.exists() else ():
        if each != films_dir:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    _say("\n".join(sheet.script_lines(planned.script)))
    _say("drawing the films of its cameras (once) ...")
    found = films_in(films_dir, math.ceil(min(planned.script.length_s + READY_S, films.LENGTH_S)))
    _say(f"starting the hub, {len(planned.real)} real boxes and {len(planned.light)} light ones ...")
    with World(planned.city, planned.real, planned.light, folder, found, library(folder)) as world:
        world.start()
        watcher = watch.Watch(world.hub_url, world.passwords[watch.WHO])
        simulation = Simulation(planned, world, watcher)
        try:
            simulation.run()
        finally:
            watcher.close()
    score = simulation.score()
    boxes = {name: f"real, {len(box.cameras)} cameras, started {box.starts} times" for name, box in world.boxes.items()}
    boxes |= {box.name: f"light, {len(box.cameras)} drawn cameras" for box in planned.light}
    _say(sheet.page(planned.script, score, boxes, simulation.from_s))
    if json_path is not None:
        json_path.write_text(json.dumps(sheet.as_json(planned.script, score, simulation.from_s), indent=1))
    return score.exit_status()
