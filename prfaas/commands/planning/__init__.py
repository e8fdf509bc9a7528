"""What `prfaas plan` does: a file becomes a question; the answer a table, a document, pictures and a report."""
