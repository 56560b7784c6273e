"""The tables of the hub's core. Everything hangs on a tenant; times are integer milliseconds UTC; 0 is "not known".

People's tables (users, alerts, audit) are in people/tables.py, on the same metadata. Changes go through migrations/.
"""

from __future__ import annotations

from sqlalchemy import JSON as _JSON
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

JSON = _JSON(none_as_null=True)
KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself for INTEGER only
ID = String(32)  # hexadecimal
NAME = String(63)  # wire._NAME
WORD = String(40)  # kinds and states that rules tell
MS = BigInteger

PLACE_KINDS = ("traffic", "service-office", "health-centre", "public-space")

tenant = Table(
    "tenant",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("title", String(200), nullable=False, default=""),
)

place = Table(
    "place",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("title_id", String(200), nullable=False, default=""),
    Column("title_en", String(200), nullable=False, default=""),
    Column("kind", String(20), nullable=False, default="public-space"),  # PLACE_KINDS
    Column("lat", Float),
    Column("lon", Float),
    Column("address", String(500), nullable=False, default=""),
    Column("hours", JSON),
    Column("retention", JSON),
    UniqueConstraint("tenant_id", "name"),
)

code = Table(
    "code",
    metadata,
    Column("code_hash", String(64), primary_key=True),  # wire.code_hash; the code itself is nowhere
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("site", NAME, nullable=False, default=""),  # "": any
    Column("box", NAME, nullable=False, default=""),
    Column("by_user", String(100), nullable=False, default=""),
    Column("created_ms", MS, nullable=False),
    Column("expires_ms", MS, nullable=False),
    Column("used_by", ID),  # box
    Column("used_ms", MS),
)

box = Table(
    "box",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False, index=True),
    Column("name", NAME, nullable=False),
    Column("site", NAME, nullable=False),
    Column("public_key", String(64), nullable=False),  # hex
    Column("software", String(100), nullable=False, default=""),
    Column("slot", String(20), nullable=False, default=""),
    Column("boot_id", String(64), nullable=False, default=""),
    Column("time_zone", String(64), nullable=False, default=""),
    Column("site_digest", String(64), nullable=False, default=""),
    Column("state", String(10), nullable=False, default="new"),  # new, here, silent
    Column("since_ms", MS, nullable=False, default=0),  # of this state
    Column("enrolled_ms", MS, nullable=False),
    Column("connected_ms", MS, nullable=False, default=0),
    Column("connection_id", String(16), nullable=False, default=""),  # of the newest one, in whichever process
    Column(
        "seen_ms", MS, nullable=False, default=0
    ),  # when it last said anything; no index: PostgreSQL then updates in place
    Column("heartbeat", JSON),  # the last one, whole
    Column("heartbeat_ms", MS, nullable=False, default=0),  # when it was received
    Column("blocked", Boolean, nullable=False, default=False),
)

camera = Table(
    "camera",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("box_id", ID, ForeignKey("box.id"), nullable=False),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("place_id", KEY, ForeignKey("place.id"), nullable=False, index=True),
    Column("name", NAME, nullable=False),
    Column("template", WORD, nullable=False, default=""),
    Column("streams", JSON),
    Column("zones", JSON),
    Column("lines", JSON),
    Column("rules", JSON),
    Column("hours", JSON),
    Column("order", Integer, nullable=False, default=0),  # on the wall
    Column("gone_ms", MS),  # no longer in the box's site file; its footage stays
    UniqueConstraint("box_id", "name"),
    Index("ix_camera_tenant_place", "tenant_id", "place_id"),
)

event = Table(
    "event",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("box_id", ID, ForeignKey("box.id"), nullable=False),
    Column("camera_id", KEY, ForeignKey("camera.id"), nullable=False),
    Column("place_id", KEY, ForeignKey("place.id"), nullable=False),
    Column("kind", WORD, nullable=False),
    Column("zone", NAME, nullable=False, default=""),
    Column("state", WORD, nullable=False),
    Column("is_end", Boolean, nullable=False, default=False),
    Column("is_moment", Boolean, nullable=False, default=False),
    Column("from_ms", MS, nullable=False),  # where the box did not know the time: when it was received
    Column("to_ms", MS, nullable=False),
    Column("is_time_known", Boolean, nullable=False, default=True),
    Column("received_ms", MS, nullable=False),
    Column("value", Integer, nullable=False, default=1),  # wire.ALARM, wire.STATE
    Column("body", JSON, nullable=False),  # all that the box told
    Column("still_sha256", String(64)),
    Column("has_still", Boolean, nullable=False, default=False),  # it arrived
    Column("clip_sha256", String(64)),  # once a clip for it arrived
    Index("ix_event_camera_from", "camera_id", "from_ms"),
    Index("ix_event_place_from", "place_id", "from_ms"),
    Index("ix_event_tenant_from", "tenant_id", "from_ms"),
    Index("ix_event_tenant_kind_from", "tenant_id", "kind", "from_ms"),
)

state_now = Table(
    "state_now",
    metadata,
    Column("camera_id", KEY, ForeignKey("camera.id"), primary_key=True),
    Column("kind", WORD, primary_key=True),
    Column("zone", NAME, primary_key=True),
    Column("slot", WORD, primary_key=True),  # "" for kinds whose states follow each other, else the state that began
    Column("state", WORD, nullable=False),
    Column("open", Integer, nullable=False, default=1),  # how many are open, such as vehicles that stand; 0: ended
    Column("since_ms", MS, nullable=False),
    Column("event_id", ID),  # not yet here where only a heartbeat told it
    Column("body", JSON, nullable=False),
)

still = Table(
    "still",
    metadata,
    Column("camera_id", KEY, ForeignKey("camera.id"), primary_key=True),
    Column("captured_ms", MS, nullable=False),  # by the box's clock, signed; 0: it did not know the time
    Column("received_ms", MS, nullable=False),
    Column("clock_state", String(20), nullable=False, default=""),
    Column("sha256", String(64), nullable=False),
    Column("signature", String(128), nullable=False),
    Column("size_bytes", Integer, nullable=False),
)

still_bytes = Table(  # only where objects lie in S3; UNLOGGED in PostgreSQL: ten seconds later there is a newer one
    "still_bytes",
    metadata,
    Column("camera_id", KEY, primary_key=True),
    Column("captured_ms", MS, nullable=False),
    Column("received_ms", MS, nullable=False),
    Column("jpeg", LargeBinary, nullable=False),
)

object_ = Table(
    "object",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("box_id", ID, ForeignKey("box.id"), nullable=False),
    Column("camera_id", KEY, ForeignKey("camera.id")),
    Column("place_id", KEY, ForeignKey("place.id")),
    Column("kind", String(20), nullable=False),  # clip, still, bundle-log, report
    Column("value", String(10), nullable=False, default="clip"),
    Column("from_ms", MS, nullable=False, default=0),
    Column("to_ms", MS, nullable=False, default=0),
    Column("size_bytes", BigInteger, nullable=False),
    Column("blob", String(300), nullable=False),  # its key in blobs.py
    Column("event_id", ID, index=True),
    Column("command_id", ID, index=True),
    Column("genuine", Boolean),  # clips: the verdict of nvr/verify_clip.py with the box's key; None: not judged
    Column("proof", JSON),  # the whole verdict
    Column("stored_ms", MS, nullable=False),
    Column("held", Boolean, nullable=False, default=False),
    Column("deleted_ms", MS),
    UniqueConstraint("box_id", "sha256"),
    Index("ix_object_camera_from", "camera_id", "from_ms"),
    Index("ix_object_tenant_kind_from", "tenant_id", "kind", "from_ms"),
)

upload = Table(
    "upload",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("box_id", ID, ForeignKey("box.id"), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False, default=0),  # durable on the hub
    Column("about", JSON, nullable=False),  # the checked metadata
    Column("created_ms", MS, nullable=False),
    Column("touched_ms", MS, nullable=False, index=True),
    Column("stored_ms", MS),  # object and row are committed
    UniqueConstraint("box_id", "sha256"),
)

piece = Table(
    "piece",
    metadata,
    Column("upload_id", ID, ForeignKey("upload.id", ondelete="CASCADE"), primary_key=True),
    Column("offset_bytes", BigInteger, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("blob", String(300), nullable=False),
)

command = Table(
    "command",
    metadata,
    Column("id", ID, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("box_id", ID, ForeignKey("box.id"), nullable=False),
    Column("do", String(20), nullable=False),
    Column("args", JSON, nullable=False),
    Column("by_user", String(100), nullable=False),
    Column("created_ms", MS, nullable=False),
    Column("sent_ms", MS),
    Column("answered_ms", MS),
    Column("withdrawn_ms", MS),
    Column("ok", Boolean),
    Column("detail", Text, nullable=False, default=""),
    Column("more", JSON),
    Index("ix_command_box_created", "box_id", "created_ms"),
)

bundle = Table(
    "bundle",  # updates for boxes: signed for them, opaque here
    metadata,
    Column("id", KEY, primary_key=True),
    Column("tenant_id", KEY, ForeignKey("tenant.id"), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("blob", String(300), nullable=False),
    Column("by_user", String(100), nullable=False),
    Column("stored_ms", MS, nullable=False),
    UniqueConstraint("tenant_id", "sha256"),
)

heartbeat_history = Table(
    "heartbeat_history",
    metadata,
    Column("box_id", ID, ForeignKey("box.id"), primary_key=True),
    Column("minute", BigInteger, primary_key=True),  # since 1970
    Column("body", JSON, nullable=False),  # intake.small_heartbeat()
)

change = Table(  # SQLite's way of telling other processes; PostgreSQL has NOTIFY
    "change",
    metadata,
    Column("number", KEY, primary_key=True),
    Column("at_ms", MS, nullable=False),
    Column("what", String(20), nullable=False),
    Column("ids", JSON, nullable=False),
    sqlite_autoincrement=True,
)
