"""Tables of the people's side, on the core's metadata. Times are integer milliseconds UTC, 0 is "not yet".

Nothing here holds a password, a token, a session name or a one-time link: hashes only. What must be read back (addresses of
notification services, TOTP secrets, webhook secrets) is sealed (sealed.py). Changes go through migrations/.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from nvr.hub.tables import JSON, KEY, MS, NAME, WORD, metadata

HASH = String(64)  # SHA-256, hex

user = Table(
    "person",  # "user" is a reserved word in PostgreSQL
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("name", NAME, nullable=False),  # lower case
    Column("title", String(200), nullable=False, default=""),  # as people call them
    Column("language", String(2), nullable=False, default="id"),
    Column("password", String(200), nullable=False, default=""),  # argon2id; "": cannot log in by password
    Column("totp", Text, nullable=False, default=""),  # sealed secret; "": no second factor
    Column("totp_new", Text, nullable=False, default=""),  # sealed, until its first code was right
    Column("totp_step", BigInteger, nullable=False, default=0),  # of the last code that was used: none works twice
    Column("created_ms", MS, nullable=False),
    Column("blocked", Boolean, nullable=False, default=False),
    UniqueConstraint("tenant_id", "name"),
)

role = Table(
    "role",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("user_id", KEY, ForeignKey("person.id"), nullable=False, index=True),
    Column("role", String(20), nullable=False),
    Column("place_id", KEY, ForeignKey("place.id")),  # null: all places
)

session = Table(
    "session",
    metadata,
    Column("name_hash", HASH, primary_key=True),
    Column("user_id", KEY, ForeignKey("person.id"), nullable=False, index=True),
    Column("created_ms", MS, nullable=False),
    Column("used_ms", MS, nullable=False),
    Column("expires_ms", MS, nullable=False),
    Column("address", String(64), nullable=False, default=""),
    Column(
        "watched_ms", MS, nullable=False, default=0
    ),  # when the audit log last said that this session looks at the wall
)

link = Table(
    "link",  # one-time links: for a first or a new password
    metadata,
    Column("token_hash", HASH, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("user_id", KEY, ForeignKey("person.id")),  # null: makes the first administrator
    Column("expires_ms", MS, nullable=False),
    Column("used_ms", MS, nullable=False, default=0),
)

login_try = Table(
    "login_try",
    metadata,
    Column("key", String(200), primary_key=True),  # "address ..." or "account tenant name"
    Column("tries", Integer, nullable=False),
    Column("last_ms", MS, nullable=False, index=True),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("user_id", KEY, ForeignKey("person.id"), nullable=False, index=True),
    Column("title", String(200), nullable=False),
    Column("token_hash", HASH, nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_ms", MS, nullable=False),
    Column("expires_ms", MS, nullable=False, default=0),  # 0: never
    Column("used_ms", MS, nullable=False, default=0),
    Column("revoked_ms", MS, nullable=False, default=0),
)

audit = Table(
    "audit",
    metadata,
    Column("tenant_id", KEY, ForeignKey("tenant.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3 ... without a hole
    Column("at_ms", MS, nullable=False),
    Column("who", String(100), nullable=False),
    Column("what", WORD, nullable=False),
    Column("object", String(300), nullable=False, default=""),
    Column("address", String(64), nullable=False, default=""),
    Column("more", JSON, nullable=False),
    Column("hash", HASH, nullable=False),  # over the hash before and all of the above
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("tenant_id", KEY, ForeignKey("tenant.id"), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("hash", HASH, nullable=False),
)

look = Table(  # at a still, until audit.fold_looks() puts those of one person and span into one row
    "look",
    metadata,
    Column("tenant_id", KEY, ForeignKey("tenant.id"), primary_key=True),
    Column("who", String(100), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("event_id", String(32), primary_key=True),
    Column("at_ms", MS, nullable=False),  # the first time
)

alert = Table(
    "alert",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("place_id", KEY, ForeignKey("place.id")),  # null: of a box as a whole
    Column("box_id", String(32), ForeignKey("box.id")),  # null: a person asked, nothing rang
    Column("camera_id", KEY, ForeignKey("camera.id")),
    Column("family", String(20), nullable=False),  # alerts.FAMILIES
    Column("kind", WORD, nullable=False),
    Column("what", WORD, nullable=False),
    Column("value", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("first_ms", MS, nullable=False),
    Column("last_ms", MS, nullable=False),
    Column("times", Integer, nullable=False),  # how often it was told
    Column("signs", JSON, nullable=False),
    Column("event_ids", JSON, nullable=False),
    Column("over_ms", MS, nullable=False, default=0),
    Column("due_ms", MS, nullable=False, default=0),
    Column("numbers", JSON, nullable=False),
    Column("version", Integer, nullable=False, default=1),  # two people at once: the second one is told
    Index("ix_alert_tenant_state", "tenant_id", "state"),
    Index("ix_alert_group", "box_id", "camera_id", "family", "state"),
    Index("ix_alert_due", "due_ms"),
)

alert_step = Table(
    "alert_step",  # its whole history, append-only
    metadata,
    Column("id", KEY, primary_key=True),
    Column("alert_id", KEY, ForeignKey("alert.id"), nullable=False, index=True),
    Column("at_ms", MS, nullable=False),
    Column("who", String(100), nullable=False),  # "" : the hub
    Column("what", String(20), nullable=False),  # opened, again, over, acknowledged, instructed, overdue, done
    Column("more", JSON, nullable=False),
)

instruction = Table(
    "instruction",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("alert_id", KEY, ForeignKey("alert.id"), nullable=False, index=True),
    Column("recipient", String(200), nullable=False),
    Column("what", String(2000), nullable=False),
    Column("due_ms", MS, nullable=False),
    Column("by_user", String(100), nullable=False),
    Column("created_ms", MS, nullable=False),
    Column("done_ms", MS, nullable=False, default=0),
    Column("done_by", String(100), nullable=False, default=""),
    Column("overdue_ms", MS, nullable=False, default=0),  # when its alert came back
)

box_signs = Table(
    "box_signs",  # what the hub itself found wrong with a box and its cameras, at the last look
    metadata,
    Column("box_id", String(32), ForeignKey("box.id"), primary_key=True),
    Column("signs", JSON, nullable=False),
)

notification = Table(
    "notification",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("title", String(200), nullable=False),
    Column("address", Text, nullable=False),  # of Apprise, sealed
    Column("service", String(40), nullable=False, default=""),  # its scheme, for people
    Column("language", String(2), nullable=False, default="id"),
    Column("quiet", String(11), nullable=False, default=""),  # 22:00-06:00
    Column("families", JSON, nullable=False),  # []: all
    Column("place_ids", JSON),  # null: all
    Column("is_on", Boolean, nullable=False, default=True),
    Column("by_user", String(100), nullable=False, default=""),
)

webhook = Table(
    "webhook",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("title", String(200), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("secret", Text, nullable=False),  # sealed; shown once
    Column("what", JSON, nullable=False),  # "alerts", "events"; []: all
    Column("is_on", Boolean, nullable=False, default=True),
    Column("by_user", String(100), nullable=False, default=""),
    Column("last_ms", MS, nullable=False, default=0),  # when the receiver was last called
    Column("last_trouble", String(300), nullable=False, default=""),  # and why it did not take it; "": it did
)

outgoing = Table(
    "outgoing",  # the durable queue of notifications and webhooks
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("channel", String(20), nullable=False),  # notification, webhook
    Column("target_id", KEY, nullable=False),
    Column("value", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_ms", MS, nullable=False),
    Column("due_ms", MS, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("sent_ms", MS, nullable=False, default=0),
    Column("failed_ms", MS, nullable=False, default=0),  # given up
    Column("trouble", String(300), nullable=False, default=""),
    Index("ix_outgoing_waiting", "channel", "sent_ms", "failed_ms", "due_ms"),
)

tally = Table(
    "tally",  # what crossed lines, by hour: the events themselves may be gone by then
    metadata,
    Column("camera_id", KEY, ForeignKey("camera.id"), primary_key=True),
    Column("hour_ms", MS, primary_key=True),
    Column("line", NAME, primary_key=True),
    Column("thing", WORD, primary_key=True),
    Column("direction", WORD, primary_key=True),
    Column("crossed", BigInteger, nullable=False),
    Index("ix_tally_hour", "hour_ms"),
)

lease = Table(
    "lease",  # which hub process does what only one may do
    metadata,
    Column("name", String(40), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until_ms", MS, nullable=False),
)

legal_hold = Table(
    "legal_hold",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("place_id", KEY, ForeignKey("place.id")),
    Column("camera_id", KEY, ForeignKey("camera.id")),
    Column("from_ms", MS, nullable=False),
    Column("to_ms", MS, nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("by_user", String(100), nullable=False),
    Column("created_ms", MS, nullable=False),
    Column("released_ms", MS, nullable=False, default=0),
    Column("released_by", String(100), nullable=False, default=""),
    Column("release_reason", String(1000), nullable=False, default=""),
)

deletion_request = Table(
    "deletion_request",  # of a person, under the law on personal data: docs/privacy.md
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("person", String(300), nullable=False),  # who asks; as little as is needed to answer
    Column("contact", String(300), nullable=False, default=""),
    Column("place_ids", JSON),  # null: all
    Column("from_ms", MS, nullable=False),
    Column("to_ms", MS, nullable=False),
    Column("reason", String(2000), nullable=False),
    Column("state", String(20), nullable=False),  # received, granted, refused, done
    Column("received_ms", MS, nullable=False),
    Column("answer_by_ms", MS, nullable=False),
    Column("by_user", String(100), nullable=False),
    Column("decided_ms", MS, nullable=False, default=0),
    Column("decided_by", String(100), nullable=False, default=""),
    Column("answer", String(2000), nullable=False, default=""),
    Column("done_ms", MS, nullable=False, default=0),
    Column("deleted", Integer, nullable=False, default=0),
    Column("kept_by_hold", Integer, nullable=False, default=0),
)

tombstone = Table(
    "tombstone",  # what was deleted, when and why; without what it showed
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("kind", String(20), nullable=False),  # clip, still, event
    Column("object", String(100), nullable=False),  # SHA-256 or event id
    Column("camera_id", KEY, nullable=True),
    Column("place_id", KEY, nullable=True),
    Column("from_ms", MS, nullable=False),
    Column("to_ms", MS, nullable=False),
    Column("why", String(100), nullable=False),
    Column("deleted_ms", MS, nullable=False),
    Column("blob", String(300), nullable=False, default=""),  # still to be removed; "": gone
    Index("ix_tombstone_blob", "blob"),
)

rollout = Table(
    "rollout",  # one update of the tenant's boxes, by groups
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("version", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("url", String(1300), nullable=False),
    Column("state", String(10), nullable=False),  # running, stopped, done
    Column("stage", Integer, nullable=False, default=0),  # rollouts.STAGES
    Column("by_user", String(100), nullable=False),
    Column("created_ms", MS, nullable=False),
    Column("ended_ms", MS, nullable=False, default=0),
    Column("why", String(500), nullable=False, default=""),  # it was stopped
)

rollout_box = Table(
    "rollout_box",
    metadata,
    Column("rollout_id", KEY, ForeignKey("rollout.id"), primary_key=True),
    Column("box_id", String(32), ForeignKey("box.id"), primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("state", String(10), nullable=False, default="waiting"),  # waiting, asked, busy, good, failed, skipped
    Column("detail", String(500), nullable=False, default=""),
    Column("command_id", String(32)),
    Column("asked_ms", MS, nullable=False, default=0),
    Column("ended_ms", MS, nullable=False, default=0),
    Column("said_before", JSON),  # its heartbeat's `update` when it was asked: that is of an earlier one
)
