import msgspec
import pytest
from tests.unit.registry.memory import MemoryBlobs

from trimtab.core.ids import canonical, digest, sha256
from trimtab.errors import BundleCorrupt, InputError, UnknownName
from trimtab.features.plan import ModulePart, Plan, RequestShape
from trimtab.registry.bundle import Bundle, load, module_path, pack
from trimtab.registry.manifest import ExportParity, Manifest, Tensor

TEXT = b"def compute(inputs):\n    return inputs\n"
PLAN = Plan(
    RequestShape("visits", "id", "at", {"shop": "str"}, {"basket": "float"}, (), {}),
    (ModulePart("features.calendar", ("hour",), sha256(TEXT)),),
)
FILES = {
    "model.onnx": b"weights",
    "plan.json": PLAN.to_json(),
    "profile.json": b"{}",
    "card.md": "# visits: größer".encode(),
    "modules/features.calendar.py": TEXT,
}


@pytest.fixture
def blobs():
    return MemoryBlobs()


def manifest(**changes):
    fields = {
        "format": 1,
        "model": "visits",
        "task": "binary",
        "runtime": "onnx",
        "files": {},
        "inputs": (Tensor("input", "float32", (-1, 1)),),
        "outputs": (Tensor("output", "float32", (-1, 1)),),
        "plan_digest": PLAN.digest,
        "dataset_digest": "d" * 64,
        "trained_until": 17,
        "code_revision": "abc",
        "libraries": {"numpy": "2.4"},
        "parity": ExportParity(3, 0.0, 0.0, 0, 1e-5),
    }
    return Manifest(**fields | changes)


def test_a_version_is_the_digest_of_its_manifest_and_the_name_of_its_blob(blobs):
    version = pack(blobs, FILES, manifest=manifest())
    bundle = load(blobs, version)
    assert version == bundle.manifest.digest == digest(bundle.manifest.content())
    assert sha256(blobs.data[version]) == version
    assert blobs.data[version] == canonical(bundle.manifest.content())


def test_a_loaded_bundle_hands_out_its_parts(blobs):
    bundle = load(blobs, pack(blobs, FILES, manifest=manifest()))
    assert bundle.plan == PLAN
    assert bundle.model == b"weights"
    assert bundle.profile == b"{}"
    assert bundle.card == "# visits: größer"
    assert bundle.modules == {"features.calendar": TEXT.decode()}
    assert bundle.file("card.md") == FILES["card.md"]
    assert bundle.manifest.files == {path: sha256(data) for path, data in FILES.items()}
    with pytest.raises(UnknownName, match="no such file"):
        bundle.file("../secret")


def test_the_order_of_files_and_whole_numbers_for_floats_do_not_change_the_version(blobs):
    back = dict(reversed(FILES.items()))
    whole = ExportParity(3, 0, 0, 0, 1e-5)
    assert pack(blobs, FILES, manifest=manifest()) == pack(blobs, back, manifest=manifest(parity=whole))


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_changed_byte_is_refused_and_names_the_file(blobs, path):
    version = pack(blobs, FILES, manifest=manifest())
    name = sha256(FILES[path])
    blobs.data[name] = FILES[path][:-1] + bytes([FILES[path][-1] ^ 1])
    with pytest.raises(BundleCorrupt, match=path):
        load(blobs, version)


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_blob_store_that_does_not_check_is_not_trusted(blobs, path):
    version = pack(blobs, FILES, manifest=manifest())
    blobs.data[sha256(FILES[path])] += b" "
    blobs.open = blobs.data.__getitem__
    with pytest.raises(BundleCorrupt, match=path):
        load(blobs, version)


def test_a_changed_manifest_is_refused(blobs):
    version = pack(blobs, FILES, manifest=manifest())
    blobs.data[version] = blobs.data[version].replace(b"visits", b"v1sits")
    with pytest.raises(BundleCorrupt, match=r"manifest\.json"):
        load(blobs, version)
    blobs.open = blobs.data.__getitem__
    with pytest.raises(BundleCorrupt, match=r"manifest\.json"):
        load(blobs, version)


def test_a_missing_file_is_refused_and_named(blobs):
    version = pack(blobs, FILES, manifest=manifest())
    del blobs.data[sha256(TEXT)]
    with pytest.raises(BundleCorrupt, match=r"modules/features\.calendar\.py"):
        load(blobs, version)


def test_a_blob_that_is_no_manifest_is_refused(blobs):
    with pytest.raises(BundleCorrupt, match="not the manifest"):
        load(blobs, blobs.put(b'{"files": 3}'))


def test_an_unknown_version_is_told_from_a_broken_one(blobs):
    with pytest.raises(UnknownName, match="no such version"):
        load(blobs, "0" * 64)


def test_a_newer_format_is_refused_with_a_hint(blobs):
    with pytest.raises(InputError, match="newer format"):
        load(blobs, pack(blobs, FILES, manifest=manifest(format=2)))


def test_a_field_of_a_later_version_is_passed_over(blobs):
    version = pack(blobs, FILES, manifest=manifest())
    later = msgspec.json.decode(blobs.data[version]) | {"something_new": 1}
    assert load(blobs, blobs.put(canonical(later))).manifest.model == "visits"


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b", "a//b", "", "a b", ".hidden", "a\\b"])
def test_a_path_that_leaves_the_bundle_is_refused(blobs, path):
    with pytest.raises(InputError, match="not a path inside"):
        pack(blobs, FILES | {path: b""}, manifest=manifest())


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"model.onnx": None}, "without a model"),
        ({"plan.json": None}, "without a feature plan"),
        ({"plan.json": msgspec.structs.replace(PLAN, parts=()).to_json()}, "not the one that its manifest names"),
        ({"modules/features.calendar.py": TEXT + b"#"}, "not the one that the plan was compiled with"),
        ({"modules/features.calendar.py": None}, "not the one that the plan was compiled with"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(blobs, files, sentence):
    chosen = {path: data for path, data in (FILES | files).items() if data is not None}
    with pytest.raises(InputError, match=sentence):
        pack(blobs, chosen, manifest=manifest())
    assert not blobs.data, "nothing of a refused bundle is stored"


def test_a_named_preprocess_module_must_be_there(blobs):
    with pytest.raises(InputError, match="'clean'"):
        pack(blobs, FILES, manifest=manifest(preprocess="clean"))
    version = pack(blobs, FILES | {module_path("clean"): b"x = 1\n"}, manifest=manifest(preprocess="clean"))
    assert load(blobs, version).modules["clean"] == "x = 1\n"


def test_the_manifest_is_stored_last(blobs):
    order = []
    put = blobs.put
    blobs.put = lambda data: (order.append(put(data)), order[-1])[1]
    assert pack(blobs, FILES, manifest=manifest()) == order[-1]


def test_size_is_that_of_all_files(blobs):
    bundle: Bundle = load(blobs, pack(blobs, FILES, manifest=manifest()))
    assert bundle.size_bytes == sum(map(len, FILES.values())) + len(blobs.data[bundle.version])
