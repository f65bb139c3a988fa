"""The options that the scripts have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def common(
    parser: argparse.ArgumentParser,
    *,
    servers: Sequence[str],
    seconds: float,
    connections: Sequence[str] = ("1", "16", "64"),
    repeats: int = 3,
) -> argparse.ArgumentParser:
    """Add them."""
    parser.add_argument("--servers", type=listed, default=list(servers), help=f"default: {','.join(servers)}")
    parser.add_argument("--connections", type=listed, default=list(connections))
    parser.add_argument("--seconds", type=float, default=seconds, help="of load for each figure")
    parser.add_argument("--requests", type=int, default=0, help="for each figure, instead of seconds")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--short", action="store_true", help="one repeat of a second, for development")
    parser.add_argument("--json", default="", help="write every run to this file")
    return parser


def finished(given: argparse.Namespace) -> argparse.Namespace:
    """What ``--short`` means."""
    if given.short:
        given.seconds, given.repeats = min(given.seconds, 1.0), 1
    return given
