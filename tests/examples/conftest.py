"""The examples against the real packages: `make test-examples`, in an environment of their own."""

import os
import tempfile

# vn.py makes a folder for its settings when it is imported.
os.environ["HOME"] = tempfile.mkdtemp(prefix="signalyard-examples-")
