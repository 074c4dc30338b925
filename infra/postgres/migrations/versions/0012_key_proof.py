"""What shows whether a process has the right keys."""

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file of the same name, statement by statement as one script."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # asyncpg takes several statements only through its simple protocol, below SQLAlchemy.
    op.get_bind().connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    """Refuse: going back would drop what is nowhere else."""
    raise NotImplementedError("Restore a backup instead: this would drop what is nowhere else.")
