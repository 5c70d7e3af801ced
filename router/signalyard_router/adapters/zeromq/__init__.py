"""ZeroMQ: requests and replies, snapshots from publishers, signals to subscribers ([zeromq.md](../../../../docs/zeromq.md))."""
