"""What deploy/ promises: manifests of fields that Kubernetes has, figures that exist, an image of pinned packages."""

import copy
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


# What may stand where, of the API of Kubernetes as far as the manifests use it: a misspelled field is no key here, and
# one that is needed is missing. A tuple holds what must be there and what may be; a list, the fields of its elements.
TEXT, COUNT, LABELS = str, int, dict
QUANTITY = re.compile(r"^\d+(\.\d+)?(m|[kMGTP]i?)?$")
METADATA = ({"name": TEXT}, {"labels": LABELS, "annotations": LABELS})
PROBE = (
    {"httpGet": ({"path": TEXT, "port": TEXT}, {})},
    {"periodSeconds": COUNT, "failureThreshold": COUNT, "timeoutSeconds": COUNT},
)
RESOURCES = ({"requests": LABELS}, {"limits": LABELS})
CONTAINER = (
    {"name": TEXT, "image": TEXT},
    {
        "ports": [({"name": TEXT, "containerPort": COUNT}, {})],
        "env": [({"name": TEXT, "value": TEXT}, {})],
        "resources": RESOURCES,
        "startupProbe": PROBE,
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
        "lifecycle": ({"preStop": ({"exec": ({"command": [TEXT]}, {})}, {})}, {}),
        "volumeMounts": [({"name": TEXT, "mountPath": TEXT}, {})],
    },
)
POD = (
    {"containers": [CONTAINER]},
    {
        "terminationGracePeriodSeconds": COUNT,
        "securityContext": ({}, {"runAsNonRoot": bool, "runAsUser": COUNT, "fsGroup": COUNT}),
    },
)
CLAIM = ({"accessModes": [TEXT], "resources": RESOURCES}, {})
SCALING = (
    {},
    {
        "stabilizationWindowSeconds": COUNT,
        "policies": [({"type": TEXT, "value": COUNT, "periodSeconds": COUNT}, {})],
    },
)
METRIC = {"metric": ({"name": TEXT}, {}), "target": ({"type": TEXT, "averageValue": TEXT}, {})}
SELECTOR = ({"matchLabels": LABELS}, {})
SPECS = {
    ("v1", "Service"): (
        {"ports": [({"port": COUNT}, {"name": TEXT, "targetPort": TEXT})]},
        {"selector": LABELS},
    ),
    ("apps/v1", "StatefulSet"): (
        {"serviceName": TEXT, "selector": SELECTOR, "template": ({"metadata": ({}, METADATA[1]), "spec": POD}, {})},
        {
            "replicas": COUNT,
            "podManagementPolicy": TEXT,
            "volumeClaimTemplates": [({"metadata": METADATA, "spec": CLAIM}, {})],
        },
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): (
        {"scaleTargetRef": ({"apiVersion": TEXT, "kind": TEXT, "name": TEXT}, {}), "maxReplicas": COUNT},
        {
            "minReplicas": COUNT,
            "metrics": [({"type": TEXT}, {"pods": (METRIC, {})})],
            "behavior": ({}, {"scaleUp": SCALING, "scaleDown": SCALING}),
        },
    ),
    ("policy/v1", "PodDisruptionBudget"): ({}, {"maxUnavailable": COUNT, "selector": SELECTOR}),
}


def faults(found, declared, where):
    """What of a manifest is not as declared: fields that are unknown, missing or of another type."""
    if isinstance(declared, list):
        if not isinstance(found, list) or not found:
            return [f"{where} is no list"]
        return [fault for n, one in enumerate(found) for fault in faults(one, declared[0], f"{where}[{n}]")]
    if isinstance(declared, tuple):
        needed, may = declared
        if not isinstance(found, dict):
            return [f"{where} is no mapping"]
        wrong = [f"{where}.{name} is unknown" for name in found.keys() - needed.keys() - may.keys()]
        wrong += [f"{where}.{name} is missing" for name in needed.keys() - found.keys()]
        both = needed | may
        return wrong + [
            fault for name in found.keys() & both.keys() for fault in faults(found[name], both[name], f"{where}.{name}")
        ]
    if declared is LABELS and not (
        isinstance(found, dict) and all(isinstance(text, str) for pair in found.items() for text in pair)
    ):
        return [f"{where} maps no text to text"]
    return [] if type(found) is declared else [f"{where} is no {declared.__name__}"]


@pytest.mark.parametrize("found", MANIFESTS, ids=lambda one: one["kind"])
def test_every_field_is_one_of_kubernetes_and_of_its_type(found):
    spec = SPECS[found["apiVersion"], found["kind"]]
    needed = {"apiVersion": TEXT, "kind": TEXT, "metadata": METADATA, "spec": spec}
    assert faults(found, (needed, {}), found["kind"]) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda container: container.update(readynessProbe=container.pop("readinessProbe")),
            "readynessProbe is unknown",
        ),
        (lambda container: container.pop("image"), "image is missing"),
        (lambda container: container["ports"][0].update(containerPort="8080"), "containerPort is no int"),
        (lambda container: container["env"][0].update(value=1), "value is no str"),
        (lambda container: container["resources"]["requests"].update(cpu=2), "requests maps no text to text"),
    ],
)
def test_what_kubernetes_would_refuse_is_seen(change, told):
    container = copy.deepcopy(manifest("StatefulSet"))["spec"]["template"]["spec"]["containers"][0]
    change(container)
    assert any(told in fault for fault in faults(container, CONTAINER, "container"))


def test_what_names_another_thing_names_one_that_is_there():
    spec = manifest("StatefulSet")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert spec["serviceName"] == manifest("Service")["metadata"]["name"]
    (container,) = spec["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    assert {probe["httpGet"]["port"] for probe in probes} <= ports
    assert {port["targetPort"] for port in manifest("Service")["spec"]["ports"]} <= ports
    scaled = manifest("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["apiVersion"], scaled["kind"]) == ("apps/v1", "StatefulSet")
    claims = [one["spec"]["resources"] for one in spec["volumeClaimTemplates"]]
    asked = [amount for one in [container["resources"], *claims] for part in one.values() for amount in part.values()]
    assert all(QUANTITY.match(amount) for amount in asked), asked
    annotated = spec["template"]["metadata"]["annotations"]["prometheus.io/port"]
    assert [int(annotated)] == [port["containerPort"] for port in container["ports"]]


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
