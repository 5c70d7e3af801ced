"""The journal: the chained record of every decision, and the gate that decides what may enter it."""
