"""Who may do what where: roles, what each allows, and what an API token may use of it.

Pure. A role holds at one place, or at all places of the tenant (`place_id` None). Things of the tenant as a whole (users, codes,
webhooks, the audit log) need a role at all places. What somebody may not see does not exist for them: 404, never 403.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

VIEWER, OPERATOR, MAYOR, ADMINISTRATOR = "viewer", "operator", "mayor", "administrator"
ROLES = (VIEWER, OPERATOR, MAYOR, ADMINISTRATOR)

# What can be allowed.
SEE = "see"  # wall, places, stills, live, events, alerts: what happens now
FOOTAGE = "footage"  # clips and windows: play, fetch from the box, download with their proof
ACT = "act"  # acknowledge, instruct, say it is done
REPORT = "report"
HEALTH = "health"  # boxes: disks, links, versions
HOLD = "hold"  # keep footage from being deleted
ADMINISTER = "administer"  # users, codes, tokens of others, webhooks, audit, deletion, releasing a hold
METRICS = "metrics"  # numbers for a monitoring system; nothing of a person

PERMISSIONS = (SEE, FOOTAGE, ACT, REPORT, HEALTH, HOLD, ADMINISTER, METRICS)

ALLOWED: dict[str, frozenset[str]] = {
    VIEWER: frozenset((SEE,)),
    OPERATOR: frozenset((SEE, FOOTAGE, ACT, REPORT, HEALTH, HOLD)),
    # A mayor asks why and sees the proof. Health of boxes and holds are somebody else's trade.
    MAYOR: frozenset((SEE, FOOTAGE, ACT, REPORT)),
    ADMINISTRATOR: frozenset(PERMISSIONS),
}

# Scopes of a token are permissions. One that administers cannot make users or tokens: only a person in a session can.
SCOPES = PERMISSIONS


@dataclass(frozen=True, slots=True)
class Grant:
    """One role of one person."""

    role: str
    place_id: int | None  # None: all places of the tenant, also those to come, and cameras without a place


@dataclass(frozen=True, slots=True)
class Rights:
    """All that one person, or one token of theirs, may do."""

    grants: tuple[Grant, ...]
    scopes: frozenset[str] | None = None  # None: a person in a session

    def has_everywhere(self, permission: str) -> bool:
        return self.is_in_scope(permission) and any(
            grant.place_id is None and permission in ALLOWED[grant.role] for grant in self.grants
        )

    def has_at(self, permission: str, place_id: int | None) -> bool:
        """At one place; None is a camera that hangs at no place yet."""
        return self.is_in_scope(permission) and any(
            grant.place_id in (None, place_id) and permission in ALLOWED[grant.role] for grant in self.grants
        )

    def has_somewhere(self, permission: str) -> bool:
        return self.is_in_scope(permission) and any(permission in ALLOWED[grant.role] for grant in self.grants)

    def places(self, permission: str) -> frozenset[int] | None:
        """Where it is allowed; None: everywhere. Empty: nowhere."""
        if self.has_everywhere(permission):
            return None
        if not self.is_in_scope(permission):
            return frozenset()
        return frozenset(
            grant.place_id for grant in self.grants if grant.place_id is not None and permission in ALLOWED[grant.role]
        )

    def is_in_scope(self, permission: str) -> bool:
        """Always, for a person in a session."""
        return self.scopes is None or permission in self.scopes


def rights_of(rows: Iterable[tuple[str, int | None]], scopes: frozenset[str] | None = None) -> Rights:
    """`rows`: role and place as they lie in the database; a role this program does not know grants nothing."""
    return Rights(tuple(Grant(role, place_id) for role, place_id in rows if role in ALLOWED), scopes)
