"""The people's side of the hub: who may do what, the API, alerts, reports, messages, deletion.

access.py  users, sessions, tokens     guard.py    stands before every route      roles.py     who may do what (pure)
api_*.py   routes, one file a group    answers.py  what they take and give        audit.py     who did what
tile.py board.py current.py            how cameras and places stand now           sealed.py    secrets that must be read back
alerts.py alerting.py                  what becomes an alert, and its way to done
opening.py hours.py reports.py         opening hours kept, waiting, traffic
quiet.py words.py outgoing.py notify.py webhooks.py signing.py mqtt.py dialling.py    what leaves the hub
rollouts.py rolling.py                                                            updates of boxes, by groups
retention.py deleting.py               what is deleted when, and what is held     worker.py    what one process does for all
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI

from nvr.errors import NvrError
from nvr.hub.parts import Hub

PREFIX = "/api/v1"


class PeopleSettingsFaulty(NvrError):
    """`people` in hub.yaml says something that cannot be."""


def install(app: FastAPI, hub: Hub) -> None:
    """Add all of it to the hub's application. Raises PeopleSettingsFaulty, SealBroken, MqttFaulty for settings that cannot be."""
    from nvr.hub.bodies import BoundedBodies
    from nvr.hub.people import alerting, guard, live, metrics, mqtt, worker
    from nvr.hub.people.sealed import Seal

    told = hub.settings.people
    if unknown := sorted(set(told) - {"mqtt", "tiles", "may_call_itself"}):
        raise PeopleSettingsFaulty(
            f"hub.yaml: people.{unknown[0]}: no such key; there are mqtt, tiles, may_call_itself",
            hint="docs/hub.md has them.",
        )
    if not isinstance(told.get("may_call_itself", False), bool):
        raise PeopleSettingsFaulty("hub.yaml: people.may_call_itself must be true or false", hint="docs/hub.md has it.")
    tiles = told.get("tiles")
    if tiles is not None and not (
        isinstance(tiles, dict)
        and set(tiles) == {"url", "attribution"}
        and all(isinstance(each, str) for each in tiles.values())
    ):
        raise PeopleSettingsFaulty("hub.yaml: people.tiles needs url and attribution", hint="docs/hub.md has them.")
    app.state.seal = Seal.of(hub.settings.data_dir)
    guard.install_errors(app)
    app.include_router(api())
    app.add_middleware(BoundedBodies, prefix=PREFIX, streamed=frozenset({("POST", f"{PREFIX}/bundles")}))
    app.include_router(metrics.router)
    hub.on_events.append(lambda connection, rows: alerting.take_events(connection, hub, rows, hub.now_ms()))
    hub.may_watch = live.may_watch
    settings = mqtt.MqttSettings.of(told.get("mqtt"))
    hub.works.append(worker.Worker(hub, app.state.seal, settings).run)


def api() -> APIRouter:
    """Everything under /api/v1."""
    from nvr.hub.people import answers

    faults: dict[int | str, dict[str, Any]] = {
        status: {"model": answers.Fault} for status in (400, 401, 403, 404, 409, 410, 422, 429)
    }
    router = APIRouter(prefix=PREFIX, responses=faults)
    for group in groups():
        router.include_router(group)
    return router


def groups() -> tuple[APIRouter, ...]:
    """The routes in the order of docs/api.md."""
    from nvr.hub.people import (
        api_alerts,
        api_boxes,
        api_cameras,
        api_events,
        api_holds,
        api_hooks,
        api_places,
        api_reports,
        api_session,
        api_updates,
        api_users,
        api_wall,
    )

    return (
        api_session.router, api_wall.router, api_places.router, api_cameras.router, api_events.router, api_alerts.router,
        api_reports.router, api_boxes.router, api_updates.router, api_users.router, api_hooks.router, api_holds.router,
    )  # fmt: skip
