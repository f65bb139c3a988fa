"""The blobs suite over a directory and over memory."""

from trimtab.adapters.blobs.directory import DirectoryBlobs
from trimtab.testing.blobs import BlobsConformance
from trimtab.testing.memory import MemoryBlobs


class TestDirectory(BlobsConformance):
    def make(self, place):
        return DirectoryBlobs(place / "blobs")

    def damage(self, place, name):
        (path,) = [path for path in (place / "blobs").rglob("*") if path.is_file() and name.endswith(path.name)]
        data = bytearray(path.read_bytes())
        data[17] ^= 1
        path.write_bytes(data)

    def test_nothing_else_is_left_behind(self, tmp_path):
        self.make(tmp_path).put(b"abc")
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


class TestMemory(BlobsConformance):
    def setup_method(self):
        self.stores = {}

    def make(self, place):
        return self.stores.setdefault(place, MemoryBlobs())

    def damage(self, place, name):
        self.stores[place].content[name] = b"other"
