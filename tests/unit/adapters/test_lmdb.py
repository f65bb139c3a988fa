"""What is particular to LMDB: growth, readers in other processes, write-back."""

import subprocess
import sys

import pytest

from trimtab.adapters.online import lmdb as online
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.errors import ConflictError, InputError, IntegrityError, Unavailable

READER = """
import sys
from pathlib import Path
from trimtab.adapters.online.lmdb import LmdbRows
rows = LmdbRows(Path(sys.argv[1]), readonly=True, map_size=1 << 16)
for line in sys.stdin:
    print(*[b"-" if row is None else row[:8] for row in rows.get_many([key.encode() for key in line.split()])], flush=True)
"""


@pytest.fixture
def reader(tmp_path):
    def ask(child, *keys):
        child.stdin.write((" ".join(keys) + "\n").encode())
        child.stdin.flush()
        return child.stdout.readline().decode().strip()

    children = []

    def start():
        child = subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        return lambda *keys: ask(child, *keys)

    yield start
    for child in children:
        child.stdin.close()
        child.stdout.close()
        child.wait()


@pytest.mark.parametrize("durable", [True, False])
def test_another_process_sees_a_step_at_once_also_when_the_map_has_grown(tmp_path, reader, durable):
    rows = LmdbRows(tmp_path, durable=durable, map_size=1 << 16)
    rows.put_many({b"a": b"1"})
    ask = reader()
    assert ask("a", "b") == "b'1' b'-'"
    rows.put_many({b"a": b"2", b"b": b"2"})
    assert ask("a", "b") == "b'2' b'2'"
    rows.put_many({b"%d" % n: b"x" * 1000 for n in range(3000)} | {b"b": b"3"})
    assert rows._env.info()["map_size"] > 3_000_000
    assert ask("a", "b", "2999") == "b'2' b'3' b'xxxxxxxx'"
    assert rows.get_many([b"a", b"2999"]) == [b"2", b"x" * 1000]


def test_a_writer_follows_when_the_map_was_grown_by_another(tmp_path):
    rows = LmdbRows(tmp_path, durable=False, map_size=1 << 16)
    script = (
        "import sys; from pathlib import Path; from trimtab.adapters.online.lmdb import LmdbRows\n"
        "LmdbRows(Path(sys.argv[1]), map_size=1 << 16).put_many({b'%d' % n: b'y' * 1000 for n in range(1000)})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    rows.put_many({b"mine": b"1"})
    assert rows.get_many([b"999", b"mine"]) == [b"y" * 1000, b"1"]


def test_a_batch_larger_than_the_map_is_written_whole(tmp_path):
    rows = LmdbRows(tmp_path, durable=False, map_size=1 << 16)
    batch = {b"%d" % n: b"z" * 500 for n in range(5000)}
    rows.put_many(batch)
    assert rows.get_many(list(batch)) == list(batch.values())


def test_what_is_kept_back_reaches_others_at_sync(tmp_path, reader):
    rows = LmdbRows(tmp_path, durable=False, write_back=True)
    ask = reader()
    rows.put_many({b"a": b"1"})
    rows.put_many({b"a": b"2"})
    assert rows.get_many([b"a"]) == [b"2"]
    assert ask("a") == "b'-'"
    rows.sync()
    assert ask("a") == "b'2'"
    rows.put_many({b"b": b"1"})
    rows.close()
    assert ask("b") == "b'1'"


def test_what_is_kept_back_is_bounded(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(online, "_PENDING_BYTES", 1000)
    rows = LmdbRows(tmp_path, durable=False, write_back=True)
    ask = reader()
    rows.put_many({b"a": b"x" * 600})
    assert ask("a") == "b'-'"
    rows.put_many({b"b": b"x" * 600})
    assert ask("a", "b") == "b'xxxxxxxx' b'xxxxxxxx'"
    assert not rows._pending


def test_a_reader_may_not_write(tmp_path):
    LmdbRows(tmp_path).close()
    rows = LmdbRows(tmp_path, readonly=True)
    for use in (lambda: rows.put_many({b"a": b"1"}), rows.sync, rows.clear):
        with pytest.raises(InputError):
            use()


def test_a_reader_without_a_store_is_unavailable(tmp_path):
    with pytest.raises(Unavailable):
        LmdbRows(tmp_path / "none", readonly=True)
    assert not (tmp_path / "none").exists()


def test_one_object_per_process(tmp_path):
    rows = LmdbRows(tmp_path)
    with pytest.raises(ConflictError):
        LmdbRows(tmp_path)
    rows.close()
    LmdbRows(tmp_path)


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(IntegrityError):
        LmdbRows(tmp_path)
