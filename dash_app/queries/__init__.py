"""What the pages ask PostgreSQL, one module a page."""
