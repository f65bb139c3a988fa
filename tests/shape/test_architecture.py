"""The architecture page and the code say the same."""

import ast
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


def contracts() -> dict[str, ast.ClassDef]:
    """Every protocol of the subjects that states a contract, by its full name."""
    found = {}
    for path in sorted((ROOT / "src" / "trimtab").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if module.split(".")[1] in ("adapters", "app"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            protocol = isinstance(node, ast.ClassDef) and "Protocol" in [ast.unparse(base) for base in node.bases]
            if protocol and "Contract" in (ast.get_docstring(node) or ""):
                found[f"{module}.{node.name}"] = node
    return found


def section(start: str, end: str) -> list[str]:
    part = PAGE[PAGE.index(start) : PAGE.index(end)]
    return re.findall(r"^\| `(trimtab\.[\w.]+\.[A-Z]\w+)` \|", part, re.MULTILINE)


def test_every_contract_is_on_the_page_once_and_small():
    shown = section("| port |", "## The way of a request")
    assert sorted(shown) == sorted(contracts())
    for name in shown:
        module, _, last = name.rpartition(".")
        found = getattr(importlib.import_module(module), last)
        methods = [key for key in vars(found) if not key.startswith("_")]
        assert 1 <= len(methods) <= 8, name


def test_every_port_has_a_conformance_suite_and_nothing_else_has_one():
    shown = {name.rpartition(".")[2] for name in section("| port |", "| seam |")}
    suites = {
        match
        for path in (ROOT / "src" / "trimtab" / "testing").glob("*.py")
        for match in re.findall(r"^class (\w+)Conformance", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert shown == suites
    used = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "conformance").glob("test_*_port.py"))
    assert [name for name in shown if f"({name}Conformance)" not in used] == []
