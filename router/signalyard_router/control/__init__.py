"""What stands beside the decisions: what people and files do to a running router, and who watches it."""
