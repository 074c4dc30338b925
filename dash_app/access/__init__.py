"""Who may see the dashboard: users, passwords, sessions, and the layer before it all."""
