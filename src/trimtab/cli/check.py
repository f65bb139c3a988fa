"""``trimtab check``."""

from __future__ import annotations

from pathlib import Path

from trimtab.cli.answer import Result, answer, command, counted


@command("trimtab check", "trimtab check --project shop --json", home=False)
def check(project: Path, *, as_json: bool) -> None:
    """Validate a project and explain each mistake: what, got, hint and file:line.

    Ends with 1 when there are problems.
    """
    from trimtab import app

    answer(lambda: app.check(project), _text, as_json=as_json, good=lambda result: not result["problems"])


def _text(result: Result) -> str:
    problems = result["problems"]
    if not problems:
        return f"ok: models {_names(result['models'])}; sources {_names(result['sources'])}"
    return "\n".join([*(_problem(problem) for problem in problems), counted(len(problems), "problem")])


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _problem(problem: dict[str, str]) -> str:
    where = f"{problem['where']}: " if problem.get("where") else ""
    got = f"\n    got:  {problem['got']}" if problem.get("got") else ""
    hint = f"\n    hint: {problem['hint']}" if problem.get("hint") else ""
    return f"{where}{problem['what']}{got}{hint}"
