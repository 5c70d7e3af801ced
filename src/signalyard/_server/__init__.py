"""The HTTP/1.1 server that both halves put in front of what they answer: connections, their bounds, and how they are drained.

It knows no path and no form of an error; who answers brings these. It needs httptools, which the extras of both halves hold
and a strategy does not: nothing else in this package imports it.
"""
