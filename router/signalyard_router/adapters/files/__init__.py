"""Route documents from a folder."""
