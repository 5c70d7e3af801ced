"""The way of a bundle over the network: files, HTTP, object stores and OCI registries, always by the bundle's digest.

:mod:`pull` and :mod:`push` are the two ways; :mod:`transport` is what a wire must be able to do, with one module a library behind it.
No model is loaded here.
"""
