from trimtab.core.ids import sha256
from trimtab.errors import IntegrityError, UnknownName


class MemoryBlobs:
    def __init__(self):
        self.data = {}

    def put(self, data):
        self.data.setdefault(sha256(data), data)
        return sha256(data)

    def open(self, name):
        if name not in self.data:
            raise UnknownName("no such blob", got=name)
        if sha256(self.data[name]) != name:
            raise IntegrityError("a blob has changed", got=name)
        return self.data[name]

    def exists(self, name):
        return name in self.data
