"""Why a hold was released, and what the receiver of a webhook said last."""

import sqlalchemy as sa
from alembic import op

revision = "0101"
down_revision = "0100"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("legal_hold", sa.Column("release_reason", sa.String(length=1000), nullable=False, server_default=""))
    op.add_column("webhook", sa.Column("last_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("webhook", sa.Column("last_trouble", sa.String(length=300), nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("put the backup from before the upgrade back (docs/hub.md)")
