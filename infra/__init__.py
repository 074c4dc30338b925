"""Everything outside the process: settings, PostgreSQL, HTTP, logs and the local stack."""
