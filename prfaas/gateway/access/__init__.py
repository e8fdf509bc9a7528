"""Who may use the gateway, how much of it, and in which order."""
