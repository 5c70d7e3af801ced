"""The wires of the clients: what each does to bring a request to the router, and signals from it. Each is imported by those who use it."""
