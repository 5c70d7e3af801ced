"""The MLServer models that serve bundles: one class a framework, all of them a Scorer behind MLServer's interface."""
