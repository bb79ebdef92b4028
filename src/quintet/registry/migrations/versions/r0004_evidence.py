"""What was measured of each expert, and what the gate said of it."""

import sqlalchemy as sa
from alembic import op

from quintet.registry.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "evidence",
        sa.Column("expert_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("expert_id", name="pk_evidence"),
        sa.ForeignKeyConstraint(["expert_id"], ["experts.id"], name="fk_evidence_expert_id"),
    )


def downgrade() -> None:
    """Drop it; `quintet evaluate` makes it again."""
    op.drop_table("evidence")
