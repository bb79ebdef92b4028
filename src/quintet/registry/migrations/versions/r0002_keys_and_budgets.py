"""Keys and their budgets; and acts that are about a key or the whole, and no department."""

import sqlalchemy as sa
from alembic import op

from quintet.registry.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables, and let the audit name a key where it had to name a department."""
    _make_keys()
    _make_budgets()
    with op.batch_alter_table("audit") as audit:
        audit.alter_column("department", existing_type=sa.String(64), nullable=True)
        audit.add_column(sa.Column("key_id", sa.String(16)))
    _execute(_GUARD_AGAIN)


def downgrade() -> None:
    """Drop them; what was done to keys stays in the audit, of no department."""
    op.drop_table("budgets")
    op.drop_table("keys")
    _execute(_UNGUARD)
    op.execute("UPDATE audit SET department = '' WHERE department IS NULL")
    with op.batch_alter_table("audit") as audit:
        audit.drop_column("key_id")
        audit.alter_column("department", existing_type=sa.String(64), nullable=False)
    _execute(_GUARD_AGAIN)


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String()),
        sa.Column("departments", sa.JSON(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime()),
        sa.Column("revoked_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )


def _make_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("allowed", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "unit", "period", name="pk_budgets"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_budgets_key_id"),
    )


def _execute(statements: dict[str, list[str]]) -> None:
    for statement in statements[op.get_bind().dialect.name]:
        op.execute(statement)


# SQLite changes a column by making the table anew, and with the old one its triggers go.
_GUARD_AGAIN = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS audit_no_{event.lower()} BEFORE {event} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit only grows'); END"
        for event in ("UPDATE", "DELETE")
    ],
    "postgresql": ["ALTER TABLE audit ENABLE TRIGGER audit_only_grows"],
}
_UNGUARD = {
    "sqlite": [f"DROP TRIGGER audit_no_{event}" for event in ("update", "delete")],
    "postgresql": ["ALTER TABLE audit DISABLE TRIGGER audit_only_grows"],
}
