"""Every command of the strategy pages is run, in order, on a live project with two versions."""

import json
import re
import shlex
from pathlib import Path

import pytest
from tests.e2e.live_house import MODEL, LiveHouse, cli

pytest_plugins = ["tests.e2e.live_fixtures"]

PAGES = Path(__file__).resolve().parents[2] / "docs"
PROMOTION = ("deploy", MODEL, "2", "--strategy", "blue-green", "--reason", "so that one was before")
AFTER = {"shadow": "1", "canary": "1", "ab": "1", "blue-green": "1", "feature-flag": "1", "kill-switch": "2"}
"""Number of the champion when a page is done."""
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page):
    """The commands of a page, in order."""
    text = (PAGES / f"strategy-{page}.md").read_text(encoding="utf-8")
    lines = [line for block in CONSOLE.findall(text) for line in block.splitlines()]
    assert lines
    assert all(line.startswith("$ trimtab ") for line in lines)
    return [shlex.split(line.removeprefix("$ trimtab ")) for line in lines]


@pytest.fixture(scope="module")
def house(trained, tmp_path_factory):
    import shutil

    made = LiveHouse(shutil.copytree(trained, tmp_path_factory.mktemp("pages") / "clicks"))
    made.start("--workers", "2")
    done = cli("train", MODEL, "-p", made.project)
    assert done.returncode == 0, done.stderr
    assert cli("rollback", MODEL, "--reason", "begin with nothing under way", "-p", made.project).returncode == 0
    yield made
    made.kill()


def test_there_is_a_page_for_every_strategy():
    assert {path.stem.removeprefix("strategy-") for path in PAGES.glob("strategy-*.md")} == set(AFTER)


@pytest.mark.parametrize("page", list(AFTER))
def test_the_commands_on_a_page_do_what_it_says(page, house):
    for command in commands(page):
        if "previous" in command:  # the page says what it needs, and what is said without
            refused = cli(*command, "-p", house.project)
            assert (refused.returncode, "no earlier version" in refused.stderr) == (2, True), refused.stderr
            assert cli(*PROMOTION, "-p", house.project).returncode == 0
        done = cli(*command, "-p", house.project)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    [model] = json.loads(cli("status", "-p", house.project, "--json").stdout)["models"]
    numbers = {version["version"]: str(version["number"]) for version in model["versions"]}
    assert numbers[model["live"]["version"]] == AFTER[page]
    assert (model["rollout"], model["live"]["killed"]) == (None, "")
