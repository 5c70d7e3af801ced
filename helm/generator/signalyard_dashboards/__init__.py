"""The dashboards of the charts, as code: `make generate` writes them, and a test compares."""
