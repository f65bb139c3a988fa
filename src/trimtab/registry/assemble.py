"""From a trained model to a version: its bundle in the blob store, and the facts of its run."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.core.ports import Blobs
from trimtab.errors import InputError
from trimtab.registry.bundle import CARD, FORMAT, PLAN, PROFILE, load, module_path, pack
from trimtab.registry.manifest import Manifest, Tensor
from trimtab.training.result import TrainingResult
from trimtab.training.run import TrainedModel
from trimtab.training.stages import Stages


def assemble(
    blobs: Blobs,
    trained: TrainedModel,
    *,
    modules: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Pack a trained model and return the facts of its run, version included.

    Parameters
    ----------
    modules
        Source text by dotted name of every module that the plan or the stages name.

    Raises
    ------
    InputError
        When a module is missing or not the one that the plan was compiled with, or when the model was judged with a
        stage of which nobody said where it comes from.
    """
    spec, exported = trained.spec, trained.exported
    files = {
        exported.file: exported.data,
        PLAN: spec.plan.to_json(),
        PROFILE: trained.profile,
        CARD: trained.card.encode(),
    } | {module_path(name): text.encode() for name, text in (modules or {}).items()}
    _check_named(spec.stages)
    version = pack(blobs, files, manifest=_manifest(trained))
    return TrainingResult(
        version=version,
        model=spec.model,
        dataset=trained.dataset,
        rows=trained.rows,
        holdout_rows=trained.holdout_rows,
        trained_until=trained.trained_until,
        cutoff=trained.cutoff,
        metrics=trained.metrics,
        train_metrics=trained.train_metrics,
        champion=trained.champion.version,
        champion_metrics=dict(trained.champion.metrics),
        champion_skipped=trained.champion.skipped,
        holdout_daily_gains=list(trained.champion.daily_gains),
        parity=exported.parity,
        size_bytes=load(blobs, version).size_bytes,
        p99_ms=trained.p99_ms,
        train_seconds=trained.train_seconds,
        libraries=dict(exported.libraries),
        code_revision=spec.code_revision,
        seed=spec.seed,
        params=dict(spec.params),
    )


def _check_named(stages: Stages) -> None:
    """What was judged with a stage must not be served without it."""
    for stage, run in (("preprocess", stages.before), ("postprocess", stages.after)):
        if (run is not None) != (stage in stages.named):
            raise InputError(
                f"{stage} of the model has no module" if run else f"{stage} was named, and the model judged without it",
                got=stages.named.get(stage, ""),
                hint="name the module that its function comes from, and pack it",
            )


def _manifest(trained: TrainedModel) -> Manifest:
    spec, exported = trained.spec, trained.exported
    return Manifest(
        format=FORMAT,
        model=spec.model,
        task=spec.task.kind,
        runtime=exported.runtime,
        files={},
        inputs=(Tensor("input", "float32", (-1, len(spec.plan.names()))),),
        outputs=(Tensor("output", "float32", (-1, spec.task.outputs)),),
        plan_digest=spec.plan.digest,
        dataset_digest=trained.dataset,
        trained_until=trained.trained_until,
        code_revision=spec.code_revision,
        libraries=dict(exported.libraries),
        parity=exported.parity,
        preprocess=spec.stages.preprocess,
        postprocess=spec.stages.postprocess,
        classes=spec.task.names,
    )
