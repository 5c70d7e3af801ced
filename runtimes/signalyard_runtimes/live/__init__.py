"""Changing what a server serves while it serves: loading, replacing and unloading bundles, and giving their memory back."""
