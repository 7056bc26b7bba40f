"""The first schema: `migrate` makes it from the tables' own declarations."""

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing comes before it."""


def downgrade() -> None:
    """Nothing comes before it."""
