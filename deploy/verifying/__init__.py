"""What deploy/verify does."""
