"""The page on metrics and the alert rules name what there is, all of it, and nothing else."""

import re
import shutil
import subprocess

import pytest
from tests.docs.test_docs import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
RULES = ROOT / "docs" / "alerts.yml"
CODE = "\n".join((ROOT / "src/trimtab/adapters/wire" / name).read_text("utf-8") for name in ("metrics.py", "cells.py"))
NAME = re.compile(r"\b(?:trimtab|http_server)_[a-z_]+\b")
HOOKS = {"trimtab_cache_requests_total"}
"""Counted by whoever has a cache."""


def told():
    return set(re.findall(r'"((?:trimtab|http_server)_[a-z_]+)"', CODE))


def plain(name):
    for ending in ("_bucket", "_sum", "_count"):
        if name.removesuffix(ending) in told():
            return name.removesuffix(ending)
    return name


def test_every_metric_is_on_the_page():
    assert {name for name in told() - HOOKS if f"`{name}`" not in PAGE} == set()


@pytest.mark.parametrize("text", [PAGE, RULES.read_text("utf-8")], ids=["page", "alerts"])
def test_nothing_is_asked_for_that_there_is_not(text):
    assert {plain(name) for name in NAME.findall(text)} - told() == set()


def test_the_rules_are_all_there():
    assert len(re.findall(r"- alert: ", RULES.read_text("utf-8"))) == 9


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
def test_promtool_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
