"""What a replay shows in a terminal."""

import io

from tests.unit.web.synthetic import example_report, regression_report

from trimtab.web.terminal import Progress, Tick, decision_line, month_table


class Screen(io.StringIO):
    """A terminal: remembers what was written and says that it is one."""

    def isatty(self):
        return True


def timer(step):
    """A clock that moves by ``step`` microseconds whenever it is read."""
    now = [0]

    def read():
        now[0] += step
        return now[0]

    return read


def test_the_month_table_is_aligned_and_marks_losing_months():
    report = example_report()
    lines = month_table([*report.months, report.total], outcome="late").splitlines()
    assert len(lines) == 12
    assert lines[0].split()[:4] == ["month", "requests", "labelled", "late"]
    marked = [line.split()[0] for line in lines if line.endswith("<- retraining lost")]
    assert marked == ["2013-03", "2013-10"]
    ends = {len(line.removesuffix("  <- retraining lost")) for line in lines}
    assert len(ends) == 1
    assert all(line.isascii() for line in lines)


def test_a_regression_has_no_auc_column():
    report = regression_report()
    assert "AUC" not in month_table(report.months, outcome="amount", loss=report.loss)


def test_a_decision_stays_on_one_line():
    assert decision_line(0, "Trained\non  everything.") == "1970-01-01 00:00  Trained on everything."


def test_without_a_terminal_it_prints_a_line_per_tenth():
    out = io.StringIO()
    progress = Progress(out, timer=timer(1000))
    for at in range(1001):
        progress(Tick(at, 0, 1000, at))
    progress.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert "\r" not in out.getvalue()
    assert "100 %" in lines[-1]


def test_a_terminal_is_redrawn_at_most_ten_times_a_second():
    out = Screen()
    progress = Progress(out, timer=timer(1000))  # a millisecond per call: a second of simulated calls
    for at in range(1000):
        progress(Tick(at, 0, 1000, at))
    assert 8 <= out.getvalue().count("\r") <= 11


def test_a_decision_takes_the_progress_line_away_first():
    out = Screen()
    progress = Progress(out, timer=timer(200_000))
    progress(Tick(1, 0, 10, 5))
    progress(Tick(2, 0, 10, 5, decision="Promoted."))
    progress.close()
    erased, decided = out.getvalue().rsplit("\r", 1)
    assert decided == "1970-01-01 00:00  Promoted.\n"
    assert erased.endswith(" ")


def test_rate_and_time_left():
    out = Screen()
    times = iter([0, 2_000_000])
    progress = Progress(out, timer=lambda: next(times))
    progress(Tick(25, 0, 100, 5_000))
    assert "2,500/s, 6.0 s left" in out.getvalue()


def test_a_replay_of_no_time_is_over_at_once():
    assert Tick(5, 5, 5, 0).share == 1.0
