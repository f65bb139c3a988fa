"""What deploy/ promises: manifests that Kubernetes takes, figures that exist, an image of pinned packages."""

import re
from pathlib import Path

import pytest
import yaml

from trimtab.adapters.wire.metrics import WorkerMetrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PIN = re.compile(r"^([a-z0-9_.\-]+)==(\S+)", re.MULTILINE)


def manifest(kind):
    (found,) = [one for one in MANIFESTS if one["kind"] == kind]
    return found


@pytest.mark.parametrize("found", MANIFESTS, ids=lambda one: one["kind"])
def test_the_schemas_of_kubernetes_take_it(found):
    validating = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    validating.validate(found, validating.latest_version(), strict=True)


def test_the_replicas_are_what_the_page_says():
    spec = manifest("StatefulSet")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 3
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"]["memory"] == "8Gi"
    assert container["ports"] == [{"name": "data", "containerPort": 8080}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"].startswith("/v2/health/")
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == manifest("Service")["spec"]["selector"] == labels
    volumes = {one["metadata"]["name"] for one in spec["volumeClaimTemplates"]}
    assert {one["name"] for one in container["volumeMounts"]} == volumes


def test_the_autoscaler_goes_by_a_queue_that_is_told():
    spec = manifest("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == manifest("StatefulSet")["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    (metric,) = spec["metrics"]
    name = metric["pods"]["metric"]["name"]
    worker = WorkerMetrics(None, "worker-1")
    worker.meter.gauge("waiting", 7)
    assert re.search(rf'^{name}{{worker="worker-1"}} 7$', worker.exposition().decode(), re.MULTILINE)
    (rule,) = yaml.safe_load((DEPLOY / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(name + "{")


def test_the_image_is_made_of_pinned_packages_and_of_files_that_are_there():
    pinned, tested = (
        dict(PIN.findall((ROOT / "requirements" / name).read_text(encoding="utf-8")))
        for name in ("core.txt", "dev.txt")
    )
    wanted = re.findall(
        r"^([a-z0-9\-]+)>=", (ROOT / "requirements" / "core.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(wanted) <= set(pinned)
    assert pinned.items() <= tested.items()  # what is shipped is what is tested
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert sorted(f"!{name}" for name in names) == sorted(allowed[1:])
    assert all((ROOT / name).exists() for name in names)
