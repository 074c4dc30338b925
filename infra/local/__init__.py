"""The local stack: PostgreSQL, a Prefect server, a worker and a sample API, all on loopback."""
