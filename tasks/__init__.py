"""One step each: extract, clean, validate, load, merge, record."""
