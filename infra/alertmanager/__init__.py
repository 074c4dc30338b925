"""Alertmanager's configuration, and the command that puts this installation's mail server in."""
