"""Make the environments of the peers, each from its pinned requirements.

    python bench/serving/install_peers.py [fastapi mlserver …]

They go to ``.bench-venvs/``, or where ``TRIMTAB_BENCH_VENVS`` says. Without names nothing is installed, only shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from rig.peers import PEERS, install, venvs


def main() -> int:
    """Install; 1 when one of them cannot be installed."""
    known = sorted(path.stem for path in PEERS.glob("*.txt"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join([*known, "all"]))
    names = parser.parse_args().names
    if unknown := sorted({*names} - {*known, "all"}):
        parser.error(f"no such environment: {', '.join(unknown)}; there are {', '.join(known)} and all")
    failed = 0
    for name in known if "all" in names else names:
        try:
            install(name)
        except subprocess.CalledProcessError as error:
            print(f"{name} could not be installed: {error}")
            failed = 1
    for name in known:
        print(f"{name:16} {'installed' if (venvs() / name / 'installed.txt').exists() else 'not installed'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
