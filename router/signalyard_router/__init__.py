"""The signal router: snapshots in, decisions out, every one of them in the journal first."""
