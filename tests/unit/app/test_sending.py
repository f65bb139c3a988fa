"""Batches that fit, and sums over the answers to them."""

import io
import json

import pytest

from trimtab import app
from trimtab.app import sending
from trimtab.errors import InputError, Unavailable


class Server:
    """Takes rows as the control process does: an ``x`` below zero is quarantined, one seen before repeats."""

    def __init__(self, *, fails_at=None):
        self.seen, self.bodies, self.fails_at = set(), [], fails_at

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def post(self, path, body):
        if len(self.bodies) == self.fails_at:
            raise Unavailable("the server does not answer", hint="is it running?")
        assert path == "/v1/events/sales"
        self.bodies.append(rows := [row["x"] for row in body["rows"]])
        bad = [{"index": n, "column": "x", "reason": "too small", "value": str(x)} for n, x in enumerate(rows) if x < 0]
        good = [x for x in rows if x >= 0]
        new = set(good) - self.seen
        self.seen |= new
        reasons = [{"column": "x", "reason": "too small", "rows": len(bad)}] if bad else []
        quarantined = {"quarantined": len(bad), "reasons": reasons, "rows": bad}
        return {"accepted": len(new), "repeated": len(good) - len(new), "quarantined": quarantined}


@pytest.fixture
def serve(monkeypatch):
    def put(server):
        monkeypatch.setattr(sending, "existing_home", lambda path, home: path)
        monkeypatch.setattr(sending, "running_control", lambda _: server)
        return server

    return put


def lines(values):
    return io.StringIO("".join(json.dumps({"x": x}) + "\n" for x in values))


def test_a_file_goes_in_batches_and_the_answers_are_summed(serve, tmp_path):
    server = serve(Server())
    file = tmp_path / "sales.jsonl"
    file.write_text(lines([*range(2000), -1, 5, *range(2000, 2100), -2]).getvalue())
    counts = []
    result = app.send(tmp_path, "sales", file, progress=counts.append)
    assert [len(body) for body in server.bodies] == [1000, 1000, 103]
    assert counts == [1000, 2000, 2103]
    rows = result.pop("rows")
    assert result == {
        "source": "sales", "sent": 2103, "accepted": 2100, "repeated": 1, "quarantined": 2,
        "reasons": [{"column": "x", "reason": "too small", "rows": 2}],
    }  # fmt: skip
    assert [(row["row"], row["value"]) for row in rows] == [(2001, "-1"), (2103, "-2")]


def test_rows_that_are_long_go_in_smaller_batches(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_MAX_BODY", "2024")
    server = serve(Server())
    app.send(tmp_path, "sales", io.StringIO("".join(f'{{"x": {n}, "pad": "{"a" * 300}"}}\n' for n in range(10))))
    assert [len(body) for body in server.bodies] == [3, 3, 3, 1]


def test_nothing_to_send_is_no_error(serve, tmp_path):
    serve(Server())
    assert app.send(tmp_path, "sales", io.StringIO(""))["sent"] == 0


def test_a_failure_midway_says_how_far_it_came(serve, tmp_path):
    serve(Server(fails_at=2))
    with pytest.raises(Unavailable, match="2000 rows before row 2001 are taken; send all again"):
        app.send(tmp_path, "sales", lines(range(3000)))


def test_without_a_control_process_and_with_a_bad_file(serve, tmp_path):
    serve(None)
    with pytest.raises(Unavailable, match="no control process runs"):
        app.send(tmp_path, "sales", lines([1]))
    serve(Server())
    with pytest.raises(InputError, match="the file cannot be read"):
        app.send(tmp_path, "sales", tmp_path / "absent.jsonl")


def test_an_infinity_in_a_file_is_named_and_not_sent_as_a_missing_value(serve, tmp_path, monkeypatch):
    server = serve(Server())
    rows = ((number, {"x": float("inf") if number == 1005 else number}) for number in range(1, 1100))
    monkeypatch.setattr(sending, "_rows", lambda *_: rows)
    with pytest.raises(InputError, match="an infinity cannot be sent") as caught:
        app.send(tmp_path, "sales", tmp_path / "sales.parquet")
    assert caught.value.got == "row 1005, x: inf"
    assert "1000 rows before row 1001 are taken" in caught.value.hint
    assert [len(body) for body in server.bodies] == [1000]
