"""The pipelines: each a flow that composes tasks, readable on one screen."""
