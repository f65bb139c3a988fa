"""What a batch leaves beside its answers: nothing of a run that died or scored nothing; modes follow the umask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import frame, run

from trimtab.adapters.offline.answers import FileAnswers
from trimtab.errors import InputError

ROOT = Path(__file__).parents[3]


def names(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*"))


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("out", ["s.parquet", "s.csv", "s/"])
def test_the_modes_of_files_follow_the_umask(home, version, tmp_path, umask, out):
    run(home, frame(100), f"{tmp_path}/{out}", version=version, chunk=30)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert len(found) >= 2
    assert set(found.values()) == {0o666 & ~umask}


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[4])
    from tests.unit.batch.batch_house import frame, run
    from trimtab.adapters import files
    from trimtab.adapters.offline import answers

    def killed(temporary, path):
        os.kill(os.getpid(), signal.SIGKILL)

    {module}.settle = killed
    run(Path(sys.argv[1]), frame(100), sys.argv[2], version=sys.argv[3], chunk=30)
"""


CUTS = [("s.parquet", "answers"), ("s.csv", "answers"), ("s.parquet", "files"), ("s.csv", "files"), ("s/", "files")]


@pytest.mark.parametrize(("out", "module"), CUTS)
def test_what_a_killed_run_had_not_finished_is_gone_with_the_next(home, version, tmp_path, out, module):
    (tmp_path / ".s.parquet-notours1").write_text("of somebody else")
    (tmp_path / ".tmp-notours1").write_text("of somebody else")
    script = textwrap.dedent(KILLED).format(module=module)
    command = [sys.executable, "-c", script, str(home), f"{tmp_path}/{out}", version, str(ROOT)]
    process = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert process.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.rglob("*")]
    assert ("together" if module == "answers" else "unfinished") in left  # the test cuts where it means to
    run(home, frame(100), f"{tmp_path}/{out}", version=version, chunk=30)
    run(home, frame(100), tmp_path / "whole.parquet", version=version, chunk=30)
    kept = {".s.parquet-notours1", ".tmp-notours1", "whole.parquet", "whole.parquet.report.json"}
    if out == "s/":
        parts = {f"s/part-{n:08d}.parquet" for n in range(4)}
        assert set(names(tmp_path)) == kept | parts | {"s", "s/_trimtab", "s/_trimtab/lock", "s/_trimtab/report.json"}
    else:
        assert set(names(tmp_path)) == kept | {out, f"{out}.report.json"}


def bad(place):
    """Its fault stands past what is read for the header: it is met when the run has begun."""
    place.write_text("id,basket,visits\n" + "a,1.25,2.5\n" * 8000 + "b,1,2,3\n")
    return str(place)


@pytest.mark.parametrize("out", ["s.parquet", "s.csv", "s/", "made/"])
def test_a_run_that_scored_nothing_leaves_nothing(home, version, tmp_path, out):
    rows = bad(tmp_path / "bad.csv")
    (tmp_path / "made").mkdir()
    before = names(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        run(home, rows, f"{tmp_path}/{out}", version=version)
    assert names(tmp_path) == before


def test_a_folder_of_somebody_else_is_left_as_it_was(home, version, tmp_path):
    (tmp_path / "s").mkdir()
    pq.write_table(frame(5), tmp_path / "s" / "part-of-theirs.parquet")
    with pytest.raises(InputError, match="no run of ours"):
        run(home, frame(10), f"{tmp_path}/s/", version=version)
    assert names(tmp_path) == ["s", "s/part-of-theirs.parquet"]


def test_answers_of_a_run_before_stay_when_starting_anew_scores_nothing(home, version, tmp_path):
    out = tmp_path / "s.parquet"
    run(home, frame(10), out, version=version)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="cannot be read"):
        run(home, bad(tmp_path / "bad.csv"), out, version=version, anew=True)
    (tmp_path / "bad.csv").unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(home, frame(10), out, version=version)["already"]


def test_a_run_that_is_killed_before_it_takes_its_parts_away_is_ended_by_the_next(home, version, tmp_path, monkeypatch):
    out = tmp_path / "s.parquet"
    run(home, frame(100, seed=1), out, version=version, chunk=30)
    with monkeypatch.context() as patched:
        patched.setattr(FileAnswers, "_take_away", lambda _: None)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        run(home, frame(100), out, version=version, chunk=30, anew=True)
    assert (tmp_path / "s.parquet.parts" / "run.json").exists()
    result = run(home, frame(100), out, version=version, chunk=30)
    assert (result["already"], result["resumed_chunks"], result["scored"]) == (False, 4, 0)
    assert names(tmp_path) == ["s.parquet", "s.parquet.report.json"]


@pytest.mark.parametrize("kept", [("lock", "chunks.jsonl"), ("chunks.jsonl",), ("part-00000000.parquet",)])
def test_a_run_that_is_killed_while_it_takes_its_parts_away_is_tidied_by_the_next(
    home, version, tmp_path, monkeypatch, kept
):
    def some(place):
        for path in place._work.iterdir():
            if path.name not in kept:
                path.unlink()

    out = tmp_path / "s.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(FileAnswers, "_take_away", some)
        run(home, frame(100), out, version=version, chunk=30)
    assert {path.name for path in (tmp_path / "s.parquet.parts").iterdir()} >= set(kept)
    assert run(home, frame(100), out, version=version, chunk=30)["already"]
    assert names(tmp_path) == ["s.parquet", "s.parquet.report.json"]


def test_a_run_that_ended_leaves_the_next_one_alone(tmp_path):
    schema = pa.schema([("id", pa.int64())])
    first, second = FileAnswers(str(tmp_path / "s.parquet")), FileAnswers(str(tmp_path / "s.parquet"))
    first.begin(b"{}", schema)
    first.write(0, b"{}", pa.table({"id": [1], "version": ["v"], "status": ["ok"]}))
    first.finish(b"{}", chunks=1)
    second.begin(b"{}", schema)
    first.close()
    assert (tmp_path / "s.parquet.parts" / "run.json").exists()
    second.close()
    assert names(tmp_path) == ["s.parquet", "s.parquet.report.json"]
