"""What `prfaas plan` does: a file becomes a question, the planner's answer a table, a document, pictures and a report."""
