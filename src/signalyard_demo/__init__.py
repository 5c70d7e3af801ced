"""The demonstration: the only package that imports both halves."""
