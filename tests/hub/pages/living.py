"""A city that lives for the browser tests: a real hub process, light boxes over the real wire, and a story that a test changes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hub.conftest import HubProcess
from tests.web.browser import Browser
from tools.city import city as city_room
from tools.city import day, furnish
from tools.city.city import City, Place
from tools.city.light_box import LightBox, identity_of, run_all
from tools.city.story import Story


def all_well(place: Place, camera: str, story_s: float, *, is_due: bool, light: float = 1.0) -> day.Scene:
    """A story in which nothing happens by itself."""
    if place.kind == "traffic":
        return day.Scene(light=light, vehicles=0.2)
    if place.kind == "public-space":
        return day.Scene(light=light, people=4)
    return day.Scene(light=light, people=3 if is_due else 0, staff=2 if is_due else 0, shut=not is_due)


class Living:
    def __init__(self, folder: Path, city: City) -> None:
        self.city = city
        self.story = Story(time.time(), city.time_zone)
        self.story.scenes = all_well
        self.story.outages = lambda box, story_s: False
        furnish.settings_file(folder / "hub", city, "127.0.0.1:0")
        with open(folder / "hub" / "hub.yaml", "a") as file:
            file.write("url: https://hub.example.org\n")  # where boxes would fetch an update
            file.write("people: {may_call_itself: true}\n")  # receivers of tests are here
        furnished = furnish.furnish(folder / "hub", city, [box.name for box in city.boxes])
        self.passwords, self._codes = furnished.passwords, furnished.codes
        self.hub = HubProcess(folder / "hub")
        self._keys = folder / "keys"
        self._keys.mkdir()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.hub.start()
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._boxes())

    async def _boxes(self) -> None:
        boxes = [
            LightBox(box, self.story, identity_of(self._keys, box.name), self.hub.url, self.city.time_zone)
            for box in self.city.boxes
        ]
        for box in boxes:
            await box.enrol(self._codes[box.box.name])
        await run_all(boxes)

    def stop(self) -> None:
        def cancel() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        self._loop.call_soon_threadsafe(cancel)
        self._thread.join(30)
        self.hub.stop()

    def reset(self) -> None:
        """Everything is well again."""
        self.story.changes.clear()
        self.story.hours.clear()
        self.story.silent.clear()

    def log_in(self, browser: Browser, who: str, page: str = "/wall") -> None:
        browser.open(self.hub.url + page)
        browser.wait("!!document.querySelector('input[name=username]')", "the form to log in")
        browser.run("document.querySelector('input[name=username]').focus()")
        browser.type(who)
        browser.run("document.querySelector('input[name=password]').focus()")
        browser.type(self.passwords[who])
        browser.press("Enter")
        browser.wait("!!document.querySelector('main#content')", "being in")


@contextlib.contextmanager
def living(folder: Path, boxes: tuple[str, ...] = ()) -> Iterator[Living]:
    """`boxes`: only these of the city; all without."""
    city = city_room.load()
    if boxes:
        city = City(
            city.title,
            city.lat,
            city.lon,
            city.time_zone,
            tuple(box for box in city.boxes if box.name in boxes),
            city.hours,
        )
    made = Living(folder, city)
    try:
        made.start()
        yield made
    finally:
        made.stop()
