"""Two tunings of one home at once: neither forgets what the other found."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.batch.batch_house import registered

from trimtab.adapters.files import write_atomic
from trimtab.app import tuning
from trimtab.app.tuned_rows import Asked
from trimtab.app.worker import read_profile
from trimtab.serving.profile import FILE, ModelProfile, ServingProfile, encode_profile
from trimtab.serving.tuning import Measured, Trial


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_was_tuned_meanwhile_is_kept(tmp_path, monkeypatch, dry_run):
    version = registered(tmp_path)

    def measured(session):  # for minutes, in which another model is tuned
        write_atomic(tmp_path / FILE, encode_profile(ServingProfile({"other": ModelProfile(8)}, 2)))
        return Measured(Trial(workers=1, threads=1, batch=16), 100, 0, 50.0, 1.0, 2.0, 1.0)

    monkeypatch.setattr(tuning._Session, "run", measured)
    monkeypatch.setattr(tuning, "resolve", lambda *_: version)
    monkeypatch.setattr(tuning, "requests_for", lambda *_: Asked([b"{}"], "made up"))
    result = tuning.tune(tuning.TuneRequest(tmp_path, "m", p99_ms=5.0, dry_run=dry_run))
    found = msgspec.convert(result["profile"], ServingProfile)
    assert (found.of("other").max_batch, found.of("m").max_batch) == (8, 16)
    assert read_profile(tmp_path) == (ServingProfile({"other": ModelProfile(8)}, 2) if dry_run else found)
