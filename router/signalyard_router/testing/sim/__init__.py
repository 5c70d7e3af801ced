"""A simulated world: virtual time, a seeded network and disk. The same seed gives the same run, to the byte.

loop      an event loop whose time passes only when everything waits
network   in-memory connections with latency, splits, resets, black holes
disk      files that can tear, lose what was not synced, fill up, fail a sync
archive   an object store that can fail, hang, and damage what it gets
world     all of it behind `ports.World`, and nodes that crash and freeze
"""
