"""Stills that somebody looked at and that are not in the audit log yet."""

import sqlalchemy as sa
from alembic import op

revision = "0103"
down_revision = "0102"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "look",
        sa.Column("tenant_id", KEY, nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_look_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "who", "address", "event_id", name=op.f("pk_look")),
    )


def downgrade() -> None:
    raise NotImplementedError("put the backup from before the upgrade back (docs/hub.md)")
