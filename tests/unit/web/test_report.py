"""The report: complete, self-contained, safe against what it shows, and readable without a script."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.web.synthetic import LOST, example_report, regression_report

from trimtab.web.heatmap import excess, ranked, step
from trimtab.web.kinds import KIND_OF_EVENT, KINDS, kind_of, kind_of_event
from trimtab.web.markup import element, escape
from trimtab.web.report import headline, render_report
from trimtab.web.report_data import Decision, DriftCell, Gain, ReplayReport, Score
from trimtab.web.svg import Scale, between_paths, line_path, month_starts, ticks

VOID = {"meta", "link", "br", "hr", "col"}


class Reader(HTMLParser):
    """Checks that every element is closed in order, and gathers what the tests look at."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.count, self.attributes = [], [], [], {}, []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.count[tag] = self.count.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page():
    return render_report(example_report())


def test_it_is_well_formed_and_every_link_leads_somewhere(page):
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.links
    assert all(link.removeprefix("#") in reader.ids for link in reader.links)


def test_it_fetches_nothing(page):
    reader = read(page)
    fetching = {"src", "srcset", "action", "data", "poster", "xlink:href"}
    assert not [(tag, name) for tag, name, _ in reader.attributes if name in fetching]
    assert {value for tag, name, value in reader.attributes if tag == "link" and name == "href"} == {"data:,"}
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", page)


def test_every_plot_has_a_title_a_description_and_a_table(page):
    reader = read(page)
    plots = re.findall(r'<svg class="plot.*?</svg>', page, flags=re.DOTALL)
    assert len(plots) == 10  # five plots, each for a wide page and for a phone
    assert all("<title>" in plot and "<desc>" in plot and 'role="img"' in plot for plot in plots)
    assert all(f">{name} as a table<" in page for name in ("The weeks", "Calibration", "Champions", "Drift"))
    assert reader.count["table"] >= 9


def test_losing_months_are_marked_and_named(page):
    assert page.count('title="Retraining lost">lost<') == len(LOST)
    assert page.count('<tr class="lost">') == len(LOST)
    assert "(March, October)" in page


def test_every_decision_is_in_the_list_with_its_evidence(page):
    report = example_report()
    for index, decision in enumerate(report.decisions):
        item = page.split(f'id="decision-{index}"')[0].rsplit("<li", 1)
        after = page.split(f'id="decision-{index}">', 1)[1].split("</li>", 1)[0]
        assert item
        assert escape(decision.sentence) in after
        assert ("<dl" in after) == bool(decision.evidence)


def test_equal_reports_give_equal_bytes(page):
    assert render_report(example_report()) == page


def test_a_report_survives_json():
    report = example_report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=ReplayReport) == report


def test_a_regression_leaves_out_what_it_does_not_have():
    page = render_report(regression_report())
    read(page)
    assert "AUC" not in page
    assert "Calibration" not in page
    assert "Squared error" in page


def test_an_empty_replay_is_still_a_page():
    empty = replace(regression_report(), weeks=(), months=(), decisions=())
    read(render_report(empty))


@given(st.text(max_size=40))
def test_nothing_that_is_shown_becomes_markup(words):
    decision = Decision(0, "note", f"<script>{words}</script>", {f"<b>{words}": [f"</dl>{words}", {"x": words}]})
    page = render_report(replace(regression_report(), decisions=(decision,), project=words, digest=words))
    read(page.replace("\r", ""))
    assert page.count("<script>") == 1


@pytest.mark.parametrize(
    ("gain", "said"),
    [(Gain(0.02, 0.01, 0.03), "lowered"), (Gain(0.001, -0.01, 0.01), "No difference"), (None, "lowered")],
)
def test_the_headline_claims_only_what_the_interval_allows(gain, said):
    assert said in headline(replace(example_report(), gain=gain))


@pytest.mark.parametrize("gain", [None, Gain(0.02, 0.01, 0.03)])
def test_the_headline_claims_no_difference_where_no_champion_changed(gain):
    report = example_report()
    report = replace(report, champions=report.champions[:1], gain=gain)
    assert headline(report) == ("No version took the place of the first: only canaries answered otherwise for a while.")
    same = replace(report, total=replace(report.total, trimtab=report.total.frozen))
    assert headline(same) == "No version took the place of the first: retraining made no difference."


def test_the_headline_says_when_retraining_lost():
    assert "raised squared error by 3.2 %" in headline(regression_report())


@given(st.floats(0, 50), st.floats(0.01, 2))
def test_a_cell_is_warm_exactly_when_it_is_beyond_its_line(psi, alarm):
    assert (step(DriftCell(psi, alarm)) >= 4) == (psi / alarm > 1)


def test_a_cell_without_data_is_not_ok():
    assert step(DriftCell(None, 0.2)) == 0
    assert excess(DriftCell(0.3, None)) is None


def test_features_are_ranked_by_how_far_they_went_beyond_their_own_line():
    rows = ranked(example_report().drift.features)
    peaks = [max(c.psi / c.alarm for c in row.cells if c.psi is not None) for row in rows]
    assert peaks == sorted(peaks, reverse=True)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_lie_inside_and_are_few(low, span, about):
    found = ticks(low, low + span, about=about)
    assert all(low - 1e-6 * span - 1e-9 <= tick <= low + span * (1 + 1e-6) + 1e-9 for tick in found)
    assert len(found) <= 2 * about + 2


def test_areas_between_lines_are_cut_where_the_lines_cross():
    above, below = between_paths([(0, 0), (10, 10)], [(0, 10), (10, 0)])
    assert above == "M0 0L5 5L0 10Z"
    assert below == "M5 5L10 10L10 0Z"


def test_areas_and_lines_leave_gaps():
    assert between_paths([(0, 0), None, (2, 0)], [(0, 1), (1, 1), (2, 1)]) == ("", "")
    assert line_path([None, None]) == ""


def test_months_start_inside_the_span():
    starts = month_starts(1_388_361_600_000_000, 1_391_212_800_000_000)  # 30 Dec 2013 to 1 Feb 2014
    assert len(starts) == 2


def test_a_flat_scale_has_a_middle():
    assert Scale((3.0, 3.0), (0.0, 10.0))(3.0) == 5.0


@given(st.text())
def test_attributes_cannot_be_broken_out_of(words):
    made = element("p", title=words)
    assert made.count('"') == 2
    assert "<" not in made[2:-5].replace("</p>", "")


def test_every_kind_of_event_can_be_shown():
    assert set(KIND_OF_EVENT.values()) <= set(KINDS)
    page = render_report(replace(regression_report(), decisions=tuple(Decision(0, kind, "s") for kind in KINDS)))
    assert all(kind.label in page for kind in KINDS.values())


def test_a_decision_of_an_unknown_kind_is_shown_under_its_own_name():
    page = render_report(replace(regression_report(), decisions=(Decision(0, "shed_load", "It was."),)))
    assert "Shed load" in page


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_a_measure_that_could_not_be_computed_is_neither_good_nor_bad(nothing):
    report = example_report()
    weeks = tuple(replace(week, trimtab=Score(nothing, nothing, nothing)) for week in report.weeks[:5])
    total = replace(report.total, trimtab=Score(nothing))
    page = render_report(replace(report, weeks=(*weeks, *report.weeks[5:]), total=total))
    read(page)
    assert "cannot be compared" in page
    assert "nan" not in re.sub(r"<script>.*|<style>.*?</style>", "", page, flags=re.DOTALL).lower().replace(
        "finance", ""
    )
    assert step(DriftCell(nothing, 0.2)) == 0


@pytest.mark.parametrize(
    ("type", "data", "label"),
    [
        ("FloorsJudged", {"passed": True}, "Gate"),
        ("FloorsJudged", {"passed": False}, "Gate failed"),
        ("GateJudged", {"verdict": "superior"}, "Gate"),
        ("GateJudged", {"verdict": "floors"}, "Gate"),
        ("GateJudged", {"verdict": "inferior"}, "Gate failed"),
        ("GateJudged", {"verdict": "expired"}, "Gate failed"),
        ("QualityJudged", {"verdict": "drop"}, "Quality"),
        ("Unheard", {}, "Note"),
    ],
)
def test_a_gate_that_was_not_passed_bears_no_check_mark(type, data, label):
    kind = kind_of(kind_of_event(type, data))
    assert kind.label == label
    assert (kind.path == kind_of("gate").path) == (label == "Gate")
