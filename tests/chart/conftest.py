"""These tests run in the charts' environment: `make charts`."""
