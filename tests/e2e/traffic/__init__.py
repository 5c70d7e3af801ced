"""A real client that never stops asking, and the account of what it was answered."""
