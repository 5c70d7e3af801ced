"""The wires over Redis or Valkey, by redis-py; they need the extra ``redis``."""
