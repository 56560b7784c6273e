"""What all answers and requests of the API have in common. The OpenAPI description is made from these types.

Times are ms UTC; null is "nobody knows". Texts for people are `why` objects: a `key` that pages translate, and numbers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Ms = Annotated[int, Field(ge=0, le=2**52)]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,63}$")]

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

# No NUL (PostgreSQL refuses it) and no half of a surrogate pair (no encoding takes it).
_CLEAN = r"^[^\x00]*$"

Short = Annotated[str, StringConstraints(max_length=200, pattern=_CLEAN)]

Long = Annotated[str, StringConstraints(max_length=2000, pattern=_CLEAN)]

Secret = Annotated[str, StringConstraints(max_length=1000, pattern=_CLEAN)]

Language = Literal["id", "en"]

Why = dict[str, Any]


class Taken(BaseModel):
    """What a request carries: an unknown key is a mistake, and is told."""

    model_config = ConfigDict(extra="forbid")


class Title(BaseModel):
    """A name for people, in both languages."""

    id: str
    en: str


class Fault(BaseModel):
    """Every answer that is no success."""

    error: str
    key: str
    hint: str = ""
    retry_s: int | None = None
    permission: str | None = None
    faults: list[dict[str, Any]] | None = None  # of a request that is not what it should be


class RoleAt(BaseModel):
    role: Literal["viewer", "operator", "mayor", "administrator"]
    place: Name | None = None  # null: all places


class Switch(Taken):
    is_on: bool


class Made(BaseModel):
    id: int
