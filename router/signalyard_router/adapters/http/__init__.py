"""The REST face of the router: a raw ASGI app behind uvicorn's protocol class on a server of our own."""
