"""The ways of a REST request to its answer: the fast lane, the binary one, MLServer's own app, and who chooses among them.

MLServer spends ten times what a small model needs on one row. So the lanes here answer what they understand completely, which
is what nearly every caller sends, and leave all else to MLServer's app: a request that is odd in any way, and whatever is an
error of the caller. A lane is never a second opinion on what is wrong.
"""
