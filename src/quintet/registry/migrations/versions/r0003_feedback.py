"""Requests, where departments keep them, and what people think of the answers."""

import sqlalchemy as sa
from alembic import op

from quintet.registry.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("digest", sa.String(64)),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
    )
    op.create_index("ix_requests_request_id", "requests", ["request_id"])
    op.create_index("ix_requests_at", "requests", ["at"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("digest", sa.String(64)),
        sa.Column("key_id", sa.String(16)),
        sa.Column("good", sa.Boolean(), nullable=False),
        sa.Column("better_answer", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.UniqueConstraint("department", "request_id", name="uq_feedback_department"),
    )


def downgrade() -> None:
    """Drop them, with all that people thought."""
    op.drop_table("feedback")
    op.drop_index("ix_requests_at", "requests")
    op.drop_index("ix_requests_request_id", "requests")
    op.drop_table("requests")
