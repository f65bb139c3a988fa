"""A model in a child process: what it is asked and answers, and what happens when it fails, hangs, dies or eats memory."""

import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from trimtab.adapters.models.foreign import Foreign
from trimtab.adapters.models.isolated import IsolatedModel
from trimtab.adapters.models.isolated_child import LOG_BYTES
from trimtab.adapters.models.isolated_process import last_words
from trimtab.errors import ModelFailed, Unavailable

HANDLER = """
import os, subprocess, sys, time

class Handler:
    def initialize(self, context):
        with open(os.path.join(context.system_properties["model_dir"], "weights.txt")) as file:
            self.weight = float(file.read())
        print("loaded", context.manifest["model"]["modelName"])

    def preprocess(self, data):
        rows = [one["body"] for one in data]
        for row in rows:
            what = row["what"]
            if what == 1:
                raise KeyError("age")
            if what == 2:
                time.sleep(60)
            if what == 3:
                os._exit(7)
            if what == 4:
                bytearray(4 << 30)
            if what == 5:
                subprocess.Popen(["sleep", "600"])
            if what == 6:
                sys.exit("bye")
        return rows

    def inference(self, rows):
        return [self.weight * (0.0 if row["x"] is None else row["x"]) for row in rows]

    def postprocess(self, outputs):
        return [{"twice": value} for value in outputs]
"""
FILES = {"handler.py": HANDLER.encode(), "weights.txt": b"2.0"}
SPEC = Foreign("handler", entry="handler.py", inputs=("what", "x"), start_s=20, call_s=5)


def rows(*values, what=0.0):
    return np.array([[what, value] for value in values], np.float32)


@pytest.fixture
def make(tmp_path):
    import sys

    made = []

    def build(files=FILES, spec=SPEC):
        made.append(IsolatedModel(files, spec, model="m", root=tmp_path / "models", python=sys.executable))
        return made[-1]

    yield build
    for one in made:
        one.close()
    until(lambda: not list((tmp_path / "models").glob("model-*")))


def until(holds, within=8.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def answers(model):
    try:
        return model.run(rows(1)).tolist() == [[2.0]]
    except Unavailable:
        return False


def test_it_answers_and_says_what_it_runs_on(make):
    model = make()
    assert model.run(rows(1, 2.5, np.nan)).tolist() == [[2], [5], [0]]
    assert model.run(rows(*range(5000))).shape == (5000, 1)
    assert model.output_names() == ["twice"]
    assert model.found["libraries"]["numpy"] == np.__version__
    assert model.pid != os.getpid()
    assert model.blocking


def test_nothing_of_it_is_imported_here(make):
    import sys

    before = set(sys.modules)
    make().run(rows(1))
    assert "handler" not in set(sys.modules) - before


def test_an_error_of_the_handler_has_its_name_and_costs_no_process(make):
    model = make()
    before = model.pid
    with pytest.raises(ModelFailed) as caught:
        model.run(rows(1, what=1))
    assert caught.value.kind == "KeyError"
    assert caught.value.got == "KeyError: 'age'"
    with pytest.raises(ModelFailed, match="SystemExit: bye"):
        model.run(rows(1, what=6))
    assert (model.pid, model.run(rows(1)).tolist()) == (before, [[2]])


def test_a_call_that_hangs_is_ended_and_the_next_ones_are_answered(make):
    model = make(spec=Foreign("handler", entry="handler.py", inputs=("what", "x"), call_s=0.3))
    start, before = time.monotonic(), model.pid
    with pytest.raises(Unavailable, match="did not answer in time"):
        model.run(rows(1, what=2))
    assert time.monotonic() - start < 2
    until(lambda: answers(model))
    assert model.pid != before
    assert not alive(before)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_process_that_dies_is_replaced(make, how):
    model = make()
    before = model.pid
    if how == "exit":
        with pytest.raises(Unavailable, match="has ended"):
            model.run(rows(1, what=3))
    else:
        os.kill(before, signal.SIGKILL)
    until(lambda: model.pid not in (0, before))
    assert model.run(rows(1)).tolist() == [[2]]


def test_a_child_that_dies_while_there_are_no_descriptors_is_started_again_when_there_are(make):
    model, before = make(), resource.getrlimit(resource.RLIMIT_NOFILE)
    assert model.trouble == ""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))  # what is open stays open
    try:
        os.kill(model.pid, signal.SIGKILL)
        until(lambda: "Too many open files" in model.trouble)
        assert model.note.endswith(model.trouble)
        with pytest.raises(Unavailable, match=r"being started again.*Too many open files"):
            model.run(rows(1))
        with pytest.raises(Unavailable, match="Too many open files"):
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    until(lambda: model.pid)
    assert (model.run(rows(1)).tolist(), model.trouble) == ([[2]], "")


def test_what_it_prints_is_bounded_while_it_runs(make, tmp_path):
    code = b"def handle(data, context):\n    print('x' * 200_000)\n    print('said', data[0]['body']['x'])\n    return [1.0]\n"
    model = make({"h.py": code}, Foreign("handler", entry="h.py", inputs=("x",)))
    for number in range(20):
        model.run(np.full((1, 1), number, np.float32))
    [log] = (tmp_path / "models").glob("model-*/log.txt")
    assert log.stat().st_size <= LOG_BYTES
    assert last_words(log) == "; its last words: said 19.0"


def test_what_it_prints_in_the_middle_of_a_call_is_bounded_too(make, tmp_path):
    code = b"import time\ndef handle(data, context):\n    print('x' * 5_000_000, flush=True)\n    time.sleep(3)\n    return [1.0]\n"
    model = make({"h.py": code}, Foreign("handler", entry="h.py", inputs=("x",)))
    asking = threading.Thread(target=model.run, args=(np.ones((1, 1), np.float32),))
    asking.start()
    [log] = (tmp_path / "models").glob("model-*/log.txt")
    until(lambda: log.stat().st_size > LOG_BYTES)
    until(lambda: log.stat().st_size <= LOG_BYTES)
    assert asking.is_alive()
    asking.join()


def test_the_last_words_of_a_long_log_are_read_from_its_end(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"\xff" * 3_000_000 + b"\nthe end\n")
    assert last_words(log) == "; its last words: the end"
    log.write_bytes(b"")
    assert last_words(log) == last_words(tmp_path / "none") == ""


def test_memory_past_its_limit_is_an_error_and_not_ours(make):
    model = make(spec=Foreign("handler", entry="handler.py", inputs=("what", "x"), memory_mb=2000))
    with pytest.raises(ModelFailed) as caught:
        model.run(rows(1, what=4))
    assert caught.value.kind == "MemoryError"
    assert model.run(rows(1)).tolist() == [[2]]


def test_closing_ends_all_that_it_started(make):
    model = make()
    model.run(rows(1, what=5))
    group = model.pid
    assert any_of_group(group)
    model.close()
    until(lambda: not any_of_group(group))
    with pytest.raises(Unavailable):
        model.run(rows(1))


def any_of_group(group):
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(place.name))
    return found


def test_several_threads_may_ask_at_once(make):
    model, wrong = make(), []

    def ask(number):
        for step in range(50):
            value = float(number * 100 + step)
            if model.run(rows(value)).tolist() != [[2 * value]]:
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


@pytest.mark.parametrize(
    ("files", "entry", "error", "words"),
    [
        ({"handler.py": b"def ("}, "handler.py", ModelFailed, "SyntaxError"),
        ({"handler.py": b"import nosuchthing"}, "handler.py", ModelFailed, "ModuleNotFoundError"),
        ({"handler.py": b"x = 1"}, "handler.py", ModelFailed, "no single handler class"),
        ({"handler.py": HANDLER.encode()}, "handler.py", ModelFailed, "FileNotFoundError"),
        ({"handler.py": b"import os; print('last'); os._exit(3)"}, "handler.py", Unavailable, "last words: last"),
        (FILES, "other.py", ModelFailed, "FileNotFoundError"),
    ],
)
def test_a_model_that_cannot_load_says_why_and_leaves_nothing(make, files, entry, error, words):
    with pytest.raises(error, match=words):
        make(files, Foreign("handler", entry=entry, inputs=("what", "x")))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("return [1.0]", "one answer per row"),
        ("return ['a', 'b']", "no numbers"),
        ("return [None, 'b']", "no numbers"),
        ("return [[1, 2], [3, 4]]", "1 outputs were registered"),
        ("return None", "one answer per row"),
    ],
)
def test_answers_that_do_not_fit_are_errors(make, code, words):
    files = {"h.py": f"def handle(data, context):\n    {code}\n".encode()}
    model = make(files, Foreign("handler", entry="h.py", inputs=("x",), outputs=("y",)))
    with pytest.raises(ModelFailed, match=words):
        model.run(np.ones((2, 1), np.float32))


LOW_HIGH = Foreign("handler", entry="h.py", inputs=("x",), outputs=("low", "high"))


@pytest.mark.parametrize(
    "answer",
    [
        "pandas.DataFrame({'high': [9, 9], 'low': [1, 1]})",
        "pandas.DataFrame({'note': ['a', 'b'], 'high': [9.0, 9.0], 'low': [1, 1]})",
        "{'high': [9, 9], 'low': [1, 1]}",
        "[{'high': 9, 'low': 1}, {'low': 1, 'high': 9}]",
        "pandas.DataFrame([[1, 9], [1, 9]])",
        "[[1, 9], [1, 9]]",
    ],
)
def test_outputs_with_names_are_taken_by_name_and_others_by_place(make, answer):
    pytest.importorskip("pandas")
    model = make({"h.py": f"import pandas\ndef handle(data, context):\n    return {answer}\n".encode()}, LOW_HIGH)
    assert model.run(np.ones((2, 1), np.float32)).tolist() == [[1, 9], [1, 9]]
    assert model.output_names() == ["low", "high"]


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("pandas.DataFrame({'high': [9, 9], 'lo': [1, 1]})", "no 'low', only high, lo"),
        ("pandas.DataFrame({'p90': [9, 9], 'p10': [1, 1]})", "no 'low', 'high', only p90, p10"),
        ("{'high': [9, 9], 'lo': [1, 1]}", "no 'low', only high, lo"),
        ("[{'high': 9, 'low': 1}, {'high': 9}]", "no 'low', only high"),
    ],
)
def test_an_output_that_is_missing_by_its_name_is_named(make, answer, missing):
    pytest.importorskip("pandas")
    model = make({"h.py": f"import pandas\ndef handle(data, context):\n    return {answer}\n".encode()}, LOW_HIGH)
    with pytest.raises(ModelFailed, match=f"the answer has {missing}"):
        model.run(np.ones((2, 1), np.float32))


def test_a_single_output_has_whatever_name_the_frame_gives_it(make):
    pytest.importorskip("pandas")
    code = b"import pandas\ndef handle(data, context):\n    return pandas.DataFrame({'prediction': [3.0]})\n"
    model = make({"h.py": code}, Foreign("handler", entry="h.py", inputs=("x",), outputs=("y",)))
    assert model.run(np.ones((1, 1), np.float32)).tolist() == [[3]]


def test_a_handler_may_take_the_matrix_and_be_one_of_several_classes(make):
    code = "class A:\n  def handle(self, data, context): return data * 2\nclass B(A): pass\n"
    model = make({"h.py": code.encode()}, Foreign("handler", entry="h.py:B", inputs=("x", "y"), takes="matrix"))
    assert model.run(np.array([[1, 2]], np.float32)).tolist() == [[2, 4]]


def test_the_directory_of_a_dead_worker_is_removed(make, tmp_path):
    left = tmp_path / "models" / "model-dead"
    left.mkdir(parents=True)
    (left / "lock").write_bytes(b"")
    model = make()
    assert not left.exists()
    assert len(list((tmp_path / "models").glob("model-*"))) == 1
    assert model.run(rows(1)).tolist() == [[2]]
