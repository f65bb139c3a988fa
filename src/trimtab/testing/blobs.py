"""What every adapter of :class:`trimtab.core.ports.Blobs` must do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trimtab.core.ids import sha256
from trimtab.core.ports import Blobs
from trimtab.errors import IntegrityError, UnknownName


class BlobsConformance:
    """Fill in ``make``, and ``damage`` where a test can reach the stored bytes."""

    def make(self, place: Path) -> Blobs:
        """Blobs over a place; called twice with one place, they are the same."""
        raise NotImplementedError

    def damage(self, place: Path, name: str) -> None:
        """Change one stored byte of a blob behind the adapter's back."""
        pytest.skip(f"no way to damage blob {name} in {place}")

    @pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 5000])
    def test_a_blob_reads_back_under_its_digest(self, tmp_path: Path, data: bytes) -> None:
        blobs = self.make(tmp_path)
        name = blobs.put(data)
        assert name == sha256(data)
        assert blobs.exists(name)
        assert blobs.open(name) == data

    def test_putting_twice_is_one_blob(self, tmp_path: Path) -> None:
        blobs = self.make(tmp_path)
        assert blobs.put(b"abc") == blobs.put(b"abc")
        assert blobs.open(sha256(b"abc")) == b"abc"

    @pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", "A" * 64, "abc", "/" + "0" * 63, "é" * 64])
    def test_what_is_not_there_is_unknown(self, tmp_path: Path, name: str) -> None:
        blobs = self.make(tmp_path)
        assert not blobs.exists(name)
        with pytest.raises(UnknownName):
            blobs.open(name)

    def test_another_object_over_the_same_place_sees_it(self, tmp_path: Path) -> None:
        name = self.make(tmp_path).put(b"abc")
        assert self.make(tmp_path).open(name) == b"abc"

    def test_a_changed_byte_is_refused_and_mended_by_putting_again(self, tmp_path: Path) -> None:
        blobs = self.make(tmp_path)
        name = blobs.put(b"abc" * 100)
        self.damage(tmp_path, name)
        with pytest.raises(IntegrityError):
            blobs.open(name)
        blobs.put(b"abc" * 100)
        assert blobs.open(name) == b"abc" * 100

    def test_threads_put_and_open_the_same_blob_and_never_see_half_of_it(self, tmp_path: Path) -> None:
        blobs, data = self.make(tmp_path), b"x" * 200_000

        def work(_: int) -> bytes:
            return blobs.open(blobs.put(data))

        with ThreadPoolExecutor(4) as pool:
            assert all(found == data for found in pool.map(work, range(20)))
