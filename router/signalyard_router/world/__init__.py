"""The real world: clocks, randomness, network, disk. The only place in the router that touches them."""
