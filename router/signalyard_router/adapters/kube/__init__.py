"""A cluster: SignalRoutes as documents, EndpointSlices as addresses, conditions as what is told back. Everything here may be away."""
