"""What the API answers and takes of updates: bundles and how they are rolled out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from nvr.hub.people.answers import _CLEAN, Hex32, Sha256, Taken

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+~-]{1,64}$")]  # as boxes take it


class Bundle(BaseModel):
    sha256: str
    version: str
    size_bytes: int
    by: str
    stored_ms: int


class Bundles(BaseModel):
    now_ms: int
    bundles: list[Bundle]


class RolloutNew(Taken):
    sha256: Sha256
    # Of a bundle that lies elsewhere; without them, of one that lies here.
    url: (
        Annotated[str, StringConstraints(pattern=r"^https://[A-Za-z0-9.:\[\]-]{1,255}(/[A-Za-z0-9._~%+/-]{0,1000})?$")]
        | None
    ) = None
    version: Version | None = None
    first: Hex32 | None = None  # the box that is tried first; else one that is here and well
    boxes: Annotated[list[Hex32], Field(min_length=1, max_length=10_000)] | None = None  # only these


class RolloutStop(Taken):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500, pattern=_CLEAN)]


class RolloutGoOn(Taken):
    retry: bool = False  # ask those that failed once more


class RolloutBox(BaseModel):
    id: str
    name: str
    site: str
    stage: int  # 0: the first box, 1: a tenth of them, 2: all others
    state: Literal["waiting", "asked", "busy", "good", "failed", "skipped"]
    detail: str
    is_here: bool
    software: str
    asked_ms: int | None
    ended_ms: int | None


class Rollout(BaseModel):
    id: int
    version: str
    sha256: str
    url: str
    state: Literal["running", "stopped", "done"]
    stage: int
    by: str
    created_ms: int
    ended_ms: int | None
    why: str  # it was stopped
    boxes: list[RolloutBox]


class Rollouts(BaseModel):
    now_ms: int
    rollouts: list[Rollout]  # the newest first, twenty at most
