"""What every wire shares: the form of a snapshot, the reading of it, and the writing of decisions.

A wire brings bytes and says when they came; everything between these bytes and the router stands here, so that one snapshot is
one object from any wire to the journal.
"""
