"""Health checks of the platform's parts: each asks one part, and says GOOD, BAD or UNKNOWN."""
