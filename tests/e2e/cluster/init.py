"""The node's first process. It holds the namespaces open and reaps what is orphaned in them; all else ends with it.

Started by :mod:`cluster.namespaces` under unshare. It waits for a line on its standard input, so that it ends by itself if whoever
started it died before writing down that it exists.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    print("here", flush=True)
    if not sys.stdin.readline():
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


if __name__ == "__main__":
    main()
