"""What the router and its clients share of Redis: one connection, its errors, and the names of keys. Needs the extra ``redis``."""
