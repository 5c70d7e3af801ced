"""What people and files do to a running router: documents reloaded, levers pulled."""
