"""The runtimes: bundles, the engines that score them, and the MLServer models that serve them."""
