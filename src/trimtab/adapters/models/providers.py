"""Which hardware ONNX Runtime uses: an order of preference, and what of it there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from trimtab.errors import InputError

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""ONNX Runtime's name by ours."""
_OURS = {theirs: ours for ours, theirs in PROVIDERS.items()}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The providers to ask for, in order, and those that were wanted and are not there."""

    providers: tuple[str, ...]
    """ONNX Runtime's names; the CPU is always the last."""
    absent: tuple[str, ...]
    """Ours."""


def read_order(text: str) -> tuple[str, ...]:
    """An order of preference as the setting writes it.

    Raises
    ------
    InputError
        When a name is unknown.

    Examples
    --------
    >>> read_order("tensorrt, cuda")
    ('tensorrt', 'cuda')
    """
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or not names:
        raise InputError(
            "not an order of providers", got=repr(text), hint=f"names of {', '.join(PROVIDERS)}, best first"
        )
    return names


def choose(order: Sequence[str], available: Collection[str]) -> Chosen:
    """What to ask ONNX Runtime for: the wanted providers that its build has, and the CPU behind them.

    Parameters
    ----------
    order
        Our names, best first.
    available
        ONNX Runtime's names: what ``onnxruntime.get_available_providers()`` says.

    Examples
    --------
    >>> choose(["tensorrt", "cuda", "cpu"], ["CUDAExecutionProvider", "CPUExecutionProvider"])
    Chosen(providers=('CUDAExecutionProvider', 'CPUExecutionProvider'), absent=('tensorrt',))
    """
    there = [name for name in order if PROVIDERS[name] in available or name == "cpu"]
    # Whatever comes after the CPU can never be reached: it runs every operator.
    asked = there[: there.index("cpu")] if "cpu" in there else there
    absent = [name for name in order[: order.index("cpu") if "cpu" in order else None] if name not in there]
    return Chosen((*(PROVIDERS[name] for name in asked), PROVIDERS["cpu"]), tuple(absent))


def note(chosen: Chosen, running: Sequence[str]) -> str:
    """What runs, and why it is not what was wanted, in words.

    Parameters
    ----------
    running
        What the session itself says: a provider whose libraries do not load is not among them.

    Examples
    --------
    >>> note(Chosen(("CUDAExecutionProvider", "CPUExecutionProvider"), ("tensorrt",)), ["CPUExecutionProvider"])
    'cpu (cuda did not start; tensorrt is not in this onnxruntime)'
    """
    first = _OURS.get(running[0], running[0]) if running else "nothing"
    failed = [_OURS[name] for name in chosen.providers if name not in running]
    why = [f"{name} did not start" for name in failed] + [
        f"{name} is not in this onnxruntime" for name in chosen.absent
    ]
    return f"{first} ({'; '.join(why)})" if why else first
