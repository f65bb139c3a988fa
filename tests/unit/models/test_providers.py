"""Providers: the order, what is not there, and what to say about it. Only the CPU is real here."""

import itertools

import onnxruntime
import pytest
from tests.unit.models.test_tensors import echo

from trimtab.adapters.models import onnx_runtime
from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.adapters.models.providers import PROVIDERS, Chosen, choose, note, read_order
from trimtab.errors import InputError

TRT, CUDA, CPU = PROVIDERS.values()


@pytest.mark.parametrize(
    ("order", "available", "asked", "absent"),
    [
        ("tensorrt,cuda,cpu", [TRT, CUDA, CPU], (TRT, CUDA, CPU), ()),
        ("tensorrt,cuda,cpu", [CUDA, CPU], (CUDA, CPU), ("tensorrt",)),
        ("tensorrt,cuda,cpu", [CPU], (CPU,), ("tensorrt", "cuda")),
        ("cuda", [CUDA, CPU], (CUDA, CPU), ()),
        ("cpu,cuda", [CUDA, CPU], (CPU,), ()),
    ],
)
def test_the_order_falls_back_to_what_is_there(order, available, asked, absent):
    assert choose(read_order(order), available) == Chosen(asked, absent)


def test_every_order_ends_on_the_cpu():
    for size in (1, 2, 3):
        for order in itertools.permutations(PROVIDERS, size):
            for available in ([], [CPU], [CUDA], [TRT, CUDA, CPU]):
                assert choose(order, available).providers[-1] == CPU
                assert choose(order, available).providers.count(CPU) == 1


def test_what_runs_is_said():
    assert note(Chosen((CUDA, CPU), ()), [CUDA, CPU]) == "cuda"
    assert note(Chosen((TRT, CUDA, CPU), ()), [CUDA, CPU]) == "cuda (tensorrt did not start)"
    assert note(Chosen((CPU,), ("cuda",)), [CPU]) == "cpu (cuda is not in this onnxruntime)"


def test_a_model_says_what_it_runs_on():
    data = echo("float32", ("n", 2))
    assert OnnxModel(data).note == "cpu"
    assert OnnxModel(data, providers=("cuda", "cpu")).note == "cpu (cuda is not in this onnxruntime)"


def test_a_device_that_cannot_start_keeps_no_model_from_being_served(monkeypatch):
    """As ONNX Runtime behaves whose build has CUDA on a machine without it, in the two ways that it has."""
    real, data = onnxruntime.InferenceSession, echo("float32", ("n", 2))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TRT, CUDA, CPU])

    def raises(data, options, providers):
        if CUDA in providers:
            raise RuntimeError("no CUDA-capable device is detected")
        return real(data, options, providers=providers)

    def falls_back(data, options, providers):
        return real(data, options, providers=[CPU])

    for start in (raises, falls_back):
        monkeypatch.setattr(onnxruntime, "InferenceSession", start)
        assert OnnxModel(data, providers=("cuda",)).note == "cpu (cuda did not start)"


def test_a_broken_file_is_no_fault_of_a_device(monkeypatch):
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda data, options, providers: real(data, options, [CPU]))
    with pytest.raises(InputError, match="not a model that ONNX Runtime loads"):
        onnx_runtime.OnnxModel(b"nonsense", providers=("cuda",))


def test_an_unknown_provider_is_refused():
    with pytest.raises(InputError, match="tensorrt, cuda, cpu"):
        read_order("gpu")
