"""Sample input: small dirty files that are the same everywhere, an API, and large bench files."""
