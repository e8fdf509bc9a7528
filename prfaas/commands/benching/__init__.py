"""What `prfaas bench` does: load, figures, report."""
