"""A router, live in the terminal. It knows the router by its wire alone: ``/v1/status`` and ``/metrics``."""
