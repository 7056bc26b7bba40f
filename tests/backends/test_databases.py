"""Both databases keep the laws of the port."""

from salus.testing.conformance import DatabaseConformance


class TestDatabase(DatabaseConformance):
    """On SQLite and PostgreSQL, by the shared fixture `database`."""
