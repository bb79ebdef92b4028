"""The conversations that people have on the page, where the server is to keep them."""

import sqlalchemy as sa
from alembic import op

from quintet.registry.tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "conversations",
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "id", name="pk_conversations"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_conversations_key_id"),
    )
    op.create_index("ix_conversations_at", "conversations", ["at"])


def downgrade() -> None:
    """Drop it, with all that was said."""
    op.drop_table("conversations")
