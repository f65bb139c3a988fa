"""Every fenced python block of README and docs is run, block after block of a page in one namespace and an empty place."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from trimtab import app
from trimtab.adapters.offline.parquet import write_parquet
from trimtab.core.clock import HOUR, instant
from trimtab.core.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^It prints:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page):
    """The python blocks of a page, padded so that a traceback shows the page's own line numbers."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text[: match.start(1)].count("\n") + match[1] for match in BLOCK.finditer(text)]


def pages_with_code():
    for page in PAGES:
        if blocks(page):
            yield pytest.param(page, id=page.name)


@pytest.mark.parametrize("page", list(pages_with_code()))
def test_the_code_on_a_page_runs_and_prints_what_the_page_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), namespace)
    said = capsys.readouterr().out
    for shown in PRINTED.findall(page.read_text(encoding="utf-8")):
        assert NUMBER.sub("#", shown) in NUMBER.sub("#", said)
        found = [float(one) for one in NUMBER.findall(said)]
        # Another processor may add in another order, and trees then split elsewhere.
        assert [float(one) for one in NUMBER.findall(shown)] == pytest.approx(found, rel=0.03, abs=0.005)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def write_shops(root, visits=6000, days=84):
    """Three shops in which a fuller basket is bought more often; a sale is known an hour after its visit."""
    generator = np.random.default_rng(7)
    asked = np.sort(generator.integers(0, days * 86_400, visits)) * 1_000_000 + instant("2026-01-05")
    basket = generator.gamma(2.0, 20.0, visits)
    bought = generator.random(visits) < 1 / (1 + np.exp(2.5 - basket / 16))
    ids, shops = np.array([f"v{n}" for n in range(visits)]), generator.choice(["ams", "ber", "cdg"], visits)
    (root / "data" / "sales").mkdir(parents=True)
    write_parquet(
        root / "data" / "sales" / "all.parquet",
        {"at": asked + HOUR, "shop": shops, "visit": ids, "bought": bought, "amount": np.where(bought, basket, 0.0)},
        times=["at"],
    )
    write_parquet(
        root / "data" / "visits.parquet",
        {"visit": ids, "asked": asked, "shop": shops, "basket": basket},
        times=["asked"],
    )


def test_the_quick_start_is_short_and_passes_its_check_and_a_replay(tmp_path):
    project, module = blocks(ROOT / "README.md")
    assert len([line for line in project.splitlines() if line.strip()]) <= 40
    (tmp_path / "features").mkdir()
    (tmp_path / "project.py").write_text(project, encoding="utf-8")
    (tmp_path / "features" / "basket.py").write_text(module, encoding="utf-8")
    write_shops(tmp_path)
    assert app.check(tmp_path)["problems"] == []
    result = app.replay(tmp_path, start="2026-03-09", until="2026-03-20")
    assert result["counts"]["requests answered"] == result["counts"]["requests asked"] > 500
    assert result["counts"]["promotions"] == 1
    assert result["parity"]["mismatch"] == 0


def test_generated_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.outdated() == [], "run python docs/generate.py"


def test_every_setting_is_documented():
    page = (ROOT / "docs" / "settings.md").read_text()
    assert [setting.name for setting in SETTINGS if f"`TRIMTAB_{setting.name.upper()}`" not in page] == []
    assert all(setting.help.endswith(".") for setting in SETTINGS)


def test_every_decision_record_is_listed():
    records = {path.name for path in (ROOT / "docs" / "decisions").glob("0*.md")}
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    assert {name for name in records if f"({name})" not in listed} == set()
