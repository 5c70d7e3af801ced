"""The orchestration of one request: scoring within the budget, then the commit."""
