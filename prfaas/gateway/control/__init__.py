"""The controller in the gateway: what it is told, and what is done of what it says."""
