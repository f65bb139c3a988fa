"""A worker that profiles itself between SIGUSR1 and its end; started as the worker is, the file's path in PROFILE."""

from __future__ import annotations

import cProfile
import os
import signal
import sys

from trimtab.app import worker


def main() -> int:
    """Serve, and leave the profile in a file."""
    profile = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    try:
        return worker.main(sys.argv[1:])
    finally:
        profile.disable()
        profile.dump_stats(os.environ["PROFILE"])


if __name__ == "__main__":
    sys.exit(main())
