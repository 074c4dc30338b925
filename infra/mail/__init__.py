"""Mail and other channels: what a message says, how it looks, and how it gets there."""
