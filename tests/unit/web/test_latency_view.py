"""Latency in a terminal and on the page: every figure is there, and what is over budget stands out."""

from tests.unit.web.test_report import read

from trimtab.web.latency import latency_plot, latency_section, latency_text


def line(part, budget, actual, *, broken=False):
    variance = None if budget is None or actual is None else actual / budget - 1
    times = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms"), actual)
    return {"part": part, "budget_ms": budget, "actual_ms": actual, "variance": variance, "broken": broken, **times}


ARM = {
    "model": "m<b>", "version": "ab" * 32, "arm": "champion", "requests": 1234, "rows": 1234,
    "budget": {"total_ms": 100, "percentile": 95, "buffer_ms": 0},
    "stages": [
        line("ingest", 10, 8.0), line("pre", 25, 32.0, broken=True), line("network", 5, None), line("queue", None, 0.25),
    ],
    "total": line("total", 100, 101.0, broken=True),
    "broken": ["pre", "total"],
    "distribution": {"total": [{"upto_ms": 100.0, "count": 4}, {"upto_ms": None, "count": 1}], "inference": []},
}  # fmt: skip


def test_the_terminal_shows_budget_actual_and_variance():
    text = "\n".join(latency_text(ARM))
    assert text.isascii()
    rows = {cells[0]: cells for cells in (row.split() for row in text.splitlines()) if cells}
    assert rows["ingest"][1:5] == ["10.0", "8.0", "-20", "%"]
    assert rows["pre"][1:5] == ["25.0", "32.0", "+28", "%"]
    assert rows["pre"][-1] == "over"
    assert rows["network"][1:4] == ["5.0", "-", "-"]
    assert rows["queue"][1:4] == ["-", "0.250", "-"]
    assert "over budget: pre, total" in text
    assert "total, requests by time:" in text
    assert "inference, requests" not in text


def test_the_page_shows_the_same_and_cannot_be_broken():
    page = str(latency_section([{**ARM, "arm": "<script>"}]))
    assert "<script>" not in page
    assert "+28 %" in page
    assert "<strong>32.0</strong>" in page
    assert latency_section([]) is None
    read(f"<main>{page}</main>")


def test_the_plot_says_what_it_shows():
    plot = str(latency_plot("total", ARM["distribution"]["total"]))
    assert "&lt;= 100 ms 4; above 1" in plot
    assert plot.count("<rect") == 2
