"""launchers/kubernetes.yaml, by the models that Kubeflow generates from what JobSet and Kubernetes publish."""

import copy
import json

import pydantic
import pytest
import yaml
from kubeflow_trainer_api.models.io_k8s_apimachinery_pkg_api_resource_quantity import (
    IoK8sApimachineryPkgApiResourceQuantity as Quantity,
)
from kubeflow_trainer_api.models.jobset_v1alpha2_failure_policy_rule import JobsetV1alpha2FailurePolicyRule
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from tests.helpers import ROOT


@pytest.fixture
def job_set():
    return yaml.safe_load((ROOT / "launchers" / "kubernetes.yaml").read_text())


def fields(value, path=()):
    """Where each key of a JSON value stands, but for the names of resources, which are free."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in pairs:
        if isinstance(key, str):
            yield path, key
        if key != "limits":
            yield from fields(part, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def check(job_set):
    """Fields that nobody knows, that are missing, or whose values have another type, are a `ValidationError`."""
    given = copy.deepcopy(job_set)
    for path, key in list(fields(given)):
        if key == "limits":  # texts and numbers, which the model takes from its own classes alone
            limits = at(given, path)[key]
            limits.update({name: Quantity(quantity) for name, quantity in limits.items()})
    return JobsetV1alpha2JobSet.model_validate(given, extra="forbid", by_alias=True, by_name=False)


def test_every_field_is_known(job_set):
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert check(job_set).spec.replicated_jobs[0].template.spec.completions == 2
    (rule,) = job_set["spec"]["failurePolicy"]["rules"]
    actions = JobsetV1alpha2FailurePolicyRule.model_fields["action"].description.partition("Valid values are ")[2]
    assert rule["action"] in actions.rstrip(".").split(", ")


def test_every_field_that_is_misspelt_is_missed(job_set):
    assert len(list(fields(job_set))) > 50
    for path, key in fields(job_set):
        misspelt = copy.deepcopy(job_set)
        at(misspelt, path)[f"{key}s"] = at(misspelt, path).pop(key)
        with pytest.raises(pydantic.ValidationError, match=rf"(?m)\b{key}s\n  Extra inputs are not permitted"):
            check(misspelt)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "failurePolicy", "maxRestarts"), "ten"),
        (("spec", "replicatedJobs", 0, "template", "spec", "podFailurePolicy", "rules", 0, "action"), "Fail"),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "restartPolicy"), "Newer"),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers"), "cskd-tf"),
    ],
)
def test_a_value_of_another_kind_is_refused(job_set, path, value):
    at(job_set, path[:-1])[path[-1]] = value
    with pytest.raises(pydantic.ValidationError, match=rf"{path[-1]}\n"):
        check(job_set)


def test_what_is_mounted_is_there(job_set):
    pod = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_each_pod_knows_its_place(job_set):
    (job,) = job_set["spec"]["replicatedJobs"]
    template = job["template"]["spec"]
    assert (job["replicas"], template["completionMode"]) == (1, "Indexed")
    assert template["completions"] == template["parallelism"] > 1
    (container,) = template["template"]["spec"]["containers"]
    variables = [variable["name"] for variable in container["env"]]
    assert variables.index("WORKER") < variables.index("TF_CONFIG")  # which Kubernetes fills in top down
    environment = {variable["name"]: variable for variable in container["env"]}
    path = environment["WORKER"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    name, port = job_set["metadata"]["name"], container["ports"][0]["containerPort"]
    for index in range(template["completions"]):
        assert json.loads(environment["TF_CONFIG"]["value"].replace("$(WORKER)", str(index))) == {
            "cluster": {
                "worker": [f"{name}-{job['name']}-0-{pod}.{name}:{port}" for pod in range(template["completions"])]
            },
            "task": {"type": "worker", "index": index},
        }
