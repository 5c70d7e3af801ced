"""One package a wire, each with its own settings and metrics. Adapters never import one another."""
