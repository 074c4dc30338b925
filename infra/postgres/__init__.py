"""PostgreSQL: connections, identifiers, tables derived from contracts, migrations."""
