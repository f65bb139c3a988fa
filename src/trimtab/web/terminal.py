"""What a replay shows in a terminal: the month table, a line per decision, and a line of progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

from trimtab.core.clock import SECOND, Micros
from trimtab.loop.tick import Tick
from trimtab.web.figures import MISSING, count, minute, percent, score, seconds
from trimtab.web.report_data import MonthRow, Score

_LOST = "<- retraining lost"
_REDRAW: Micros = SECOND // 10
"""At most ten redraws a second, so that showing progress costs nothing."""


def month_table(rows: Sequence[MonthRow], *, outcome: str = "rate", loss: str = "log_loss") -> str:
    """The months as an aligned table, losing ones marked at the end of their line.

    Plain ASCII, so that it survives every terminal and log. Columns that no row has (the AUC of a regression) are
    left out.

    Examples
    --------
    >>> print(month_table([MonthRow("2013-03", 10, 9, 0.2, Score(0.5), Score(0.6), lost=True)]))
    month    requests  labelled    rate  log_loss frozen  trimtab
    2013-03        10    90.0 %  20.0 %            0.500    0.600  <- retraining lost
    """
    scores = [score for row in rows for score in (row.frozen, row.trimtab)]
    binary = any(s.auc is not None for s in scores) or loss == "log_loss"
    measures: list[tuple[str, Callable[[Score], float | None]]] = [(loss, lambda s: s.loss)]
    if any(s.auc is not None for s in scores):
        measures.insert(0, ("AUC", lambda s: s.auc))
    if any(s.ece is not None for s in scores):
        measures.append(("ECE", lambda s: s.ece))
    head = ["month", "requests", "labelled", outcome]
    for name, _ in measures:
        head += [f"{name} frozen", "trimtab"]
    lines = [head]
    for row in rows:
        covered = percent(row.labelled / row.requests) if row.requests else MISSING
        cells = [row.month, count(row.requests), covered, percent(row.base_rate) if binary else score(row.base_rate)]
        for _, read in measures:
            cells += [score(read(row.frozen)), score(read(row.trimtab))]
        lines.append(cells)
    marks = ["", *(_LOST if row.lost else "" for row in rows)]
    return "\n".join(
        f"{line}  {mark}".rstrip() for line, mark in zip(aligned(lines).split("\n"), marks, strict=True)
    ).replace(MISSING, "-")


def aligned(lines: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> str:
    """Cells in columns two spaces apart; right-aligned except the columns in ``left``.

    Examples
    --------
    >>> print(aligned([["a", "10"], ["bc", "9"]]))
    a   10
    bc   9
    """
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))] if lines else []
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def decision_line(when: Micros, sentence: str) -> str:
    """A decision as one line.

    Examples
    --------
    >>> decision_line(1_362_355_200_000_000, "Trained on everything known.")
    '2013-03-04 00:00  Trained on everything known.'
    """
    return f"{minute(when)}  {' '.join(sentence.split())}"


class Progress:
    """One line that is redrawn in place, or, when nobody watches, a line for every tenth of the way.

    Call it with a :class:`Tick` as often as you like. Decisions are printed as lines of their own above it.

    Parameters
    ----------
    stream
        Where to write; redrawing happens only when it is a terminal.
    timer
        A monotonic time in microseconds, for the rate and the time left.

    Examples
    --------
    >>> import io
    >>> out = io.StringIO()
    >>> progress = Progress(out, timer=lambda: 0)
    >>> progress(Tick(0, 0, 10, 0, decision="Trained."))
    >>> out.getvalue()
    '1970-01-01 00:00  Trained.\\n'
    """

    def __init__(self, stream: TextIO, *, timer: Callable[[], Micros]) -> None:
        self._stream, self._timer = stream, timer
        self._live = stream.isatty()
        self._began = timer()
        self._drawn = self._began - _REDRAW
        self._tenth = 0
        self._width = 0

    def __call__(self, tick: Tick) -> None:
        """Show where the replay is."""
        if tick.decision:
            self._print(decision_line(tick.when, tick.decision))
            return
        now = self._timer()
        if self._live:
            if now - self._drawn >= _REDRAW:
                self._drawn = now
                self._draw(self._line(tick, now))
            return
        tenth = int(tick.share * 10 + 1e-9)
        if tenth > self._tenth:
            self._tenth = tenth
            self._print(self._line(tick, now))

    def close(self) -> None:
        """Take the line away, so that what follows starts on a clean one."""
        self._draw("")

    def _line(self, tick: Tick, now: Micros) -> str:
        passed = max(now - self._began, 1) / SECOND
        left = passed * (1 - tick.share) / tick.share if tick.share > 0 else 0.0
        pace = f"{count(tick.done)} answered, {count(tick.done / passed)}/s"
        return f"{minute(tick.when)}  {100 * tick.share:3.0f} %  {pace}, {seconds(left)} left"

    def _draw(self, line: str) -> None:
        if not self._live or not (line or self._width):
            return
        self._stream.write("\r" + line.ljust(self._width) + ("" if line else "\r"))
        self._stream.flush()
        self._width = len(line)

    def _print(self, line: str) -> None:
        self._draw("")
        self._stream.write(line + "\n")
        self._stream.flush()
