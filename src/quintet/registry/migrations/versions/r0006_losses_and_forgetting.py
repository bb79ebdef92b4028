"""The losses of each expert's training, and the matrix of what all forgot: for machines that trained nothing."""

import sqlalchemy as sa
from alembic import op

from quintet.registry.tables import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "losses",
        sa.Column("expert_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("training", sa.JSON(), nullable=False),
        sa.Column("held_out", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("expert_id", name="pk_losses"),
        sa.ForeignKeyConstraint(["expert_id"], ["experts.id"], name="fk_losses_expert_id"),
    )
    op.create_table(
        "forgetting",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_forgetting"),
    )


def downgrade() -> None:
    """Drop them; the machine that trained and measured still has both."""
    op.drop_table("forgetting")
    op.drop_table("losses")
