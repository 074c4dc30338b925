"""Metrics for Prometheus, read from PostgreSQL at each scrape: `python -m infra.exporter`.

The state of a run that was killed is there, and counters outlive processes and pruning.
"""
