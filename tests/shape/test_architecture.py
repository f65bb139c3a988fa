"""The architecture page and the code say the same."""

import importlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]


def rooms():
    return [room.strip() for layer in LAYERS for room in layer.split("|")]


def test_every_room_is_on_the_page_in_the_order_of_the_contract():
    shown = re.findall(r"^\| `trimtab\.(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(rooms())
    depth = {room.strip(): number for number, layer in enumerate(LAYERS) for room in layer.split("|")}
    assert [depth[room] for room in shown] == sorted(depth[room] for room in shown)


def test_every_room_is_a_module_and_every_module_a_room():
    source = ROOT / "src" / "trimtab"
    found = {path.stem for path in source.glob("*.py")} | {path.parent.name for path in source.glob("*/__init__.py")}
    assert found - {"__init__"} == set(rooms())


def test_every_port_on_the_page_exists_and_is_small():
    ports = re.findall(r"^\| `(trimtab\.[\w.]+\.[A-Z]\w+)` \|", PAGE, re.MULTILINE)
    assert len(ports) == 8
    for port in ports:
        module, _, name = port.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        methods = [key for key in vars(found) if not key.startswith("_")]
        assert 1 <= len(methods) <= 8, port
        assert "Contract" in found.__doc__, port
