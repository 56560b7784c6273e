"""docs/api.md from the code: `python -m nvr.hub.people.document > docs/api.md`. The hub itself gives the whole description at /openapi.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.routing import APIRoute, APIWebSocketRoute

from nvr.hub.people import PREFIX, groups, guard, metrics, roles

_HEAD = """# API of the hub

Written by `make docs` from the code. The whole description, with every field, is what a running hub gives at `/openapi.json` (OpenAPI 3.1); generators
of clients take it as it is.

## In short

* JSON in, JSON out. Times are `*_ms`: milliseconds since 1970 UTC. `null` means that nobody knows. Unknown keys in a request are refused.
* **Browsers** log in with `POST /api/v1/session` and get a cookie (HttpOnly, SameSite=Lax, `__Host-` over TLS). Each changing request carries the
  header `X-CSRF` with the token that `GET /api/v1/session` gives.
* **Programs** send `Authorization: Bearer nvr_...`, a token with scopes (`nvr hub token`, or `POST /api/v1/tokens`). A token does what its owner may *and* its scopes
  name, now, not when it was made. What says "person" below a token cannot do.
* What somebody may not see does not exist for them: **404**. What they may see and not do: **403**. Not logged in: **401**; too many tries: **429** with `Retry-After`.
* Every answer that is no success: `{"error": "in words", "key": "for programs", "hint": "what to do"}`.
* Texts for people come as a `why`: a `key` and numbers, to be translated by whoever shows them. Names of places come as `{"id": ..., "en": ...}`.
* Lists go on with `before` from the answer before, until it is `null`.

## Who may do what

A role holds at one place or at all of them; "all places" below means that a role at one place is not enough.

"""

_TAIL = """
## Webhooks

One POST for each step of an alert, or each event; in order for each receiver; any 2xx takes it; retried with back-off for four days, then given up and shown.
A delivery may come twice: `Nvr-Delivery` is its number. Redirects are not followed.

```
Nvr-Signature: t=1764025200,v1=HEX      v1 = HMAC-SHA256(secret, t + "." + body), in hexadecimal
```

Compute it over the bytes as received, compare in constant time, and refuse a `t` that is more than five minutes off. `nvr/hub/people/signing.py` has the few
lines that do it.

## MQTT

`people: {mqtt: {host, port, user, password, tls, base}}` in the hub's settings turns it on. Home Assistant finds places and cameras by itself.

| topic | retained | holds |
| --- | --- | --- |
| `homeassistant/.../config` | yes | discovery |
| `BASE/TENANT/place/NAME` | yes | `service`, `due`, `waiting`, `wait_s`, `traffic`, `incidents`: what is judged there, and `cannot tell` when it cannot be |
| `BASE/TENANT/camera/ID` | yes | `state`, `why`, `problem` (ON or OFF) |
| `BASE/status` | yes | `online`, or `offline` when the hub ended or died |

## Prometheus

`GET /metrics` with a token of scope `metrics`: boxes and cameras by state, silence, outbox and card of each box, alerts that are not done, messages that wait, what
lies at the hub. Numbers are read from the database, so every hub process gives the same.
"""


@dataclass(frozen=True, slots=True)
class Line:
    method: str
    path: str
    takes: str
    needs: str
    does: str


def lines(router: APIRouter, prefix: str) -> Iterator[Line]:
    for route in router.routes:
        if isinstance(route, APIWebSocketRoute):
            yield Line("WS", prefix + route.path, "", "see", _first(route.endpoint.__doc__))
        elif isinstance(route, APIRoute):
            needs = next(
                (each.call for each in route.dependant.dependencies if isinstance(each.call, guard.Needs)), None
            )
            for method in sorted(route.methods or ()):
                yield Line(method, prefix + route.path, _takes(route), _needs(needs), _first(route.endpoint.__doc__))


def _needs(needs: guard.Needs | None) -> str:
    if needs is None:
        return "nobody logged in"
    words = [needs.permission or "log-in"]
    if needs.everywhere:
        words.append("all places")
    if needs.by_session:
        words.append("person")
    return ", ".join(words)


def _takes(route: APIRoute) -> str:
    query = [f"?{field.alias}" for field in route.dependant.query_params]
    body: list[str] = []
    for field in route.dependant.body_params:
        model = getattr(field.field_info, "annotation", None)
        for name, each in getattr(model, "model_fields", {}).items():
            body.append(name if each.is_required() else f"{name}?")
    return " ".join([*query, "{" + ", ".join(body) + "}" if body else ""]).strip()


def _first(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def document() -> str:
    parts = [_HEAD]
    parts.append("| may | " + " | ".join(roles.ROLES) + " |\n| --- |" + " --- |" * len(roles.ROLES) + "\n")
    for permission in roles.PERMISSIONS:
        marks = ["yes" if permission in roles.ALLOWED[role] else "" for role in roles.ROLES]
        parts.append(f"| `{permission}` | " + " | ".join(marks) + " |\n")
    parts.append("\n## Routes\n\n`?name` is in the address, `{name}` in the body; `name?` may be left out.\n")
    for group in (*groups(), metrics.router):
        prefix = "" if group is metrics.router else PREFIX
        parts.append("\n| route | takes | needs | |\n| --- | --- | --- | --- |\n")
        for line in lines(group, prefix):
            takes = f"`{line.takes}`" if line.takes else ""
            parts.append(f"| `{line.method} {line.path}` | {takes} | {line.needs} | {line.does} |\n")
    return "".join(parts) + _TAIL


if __name__ == "__main__":
    print(document(), end="")
