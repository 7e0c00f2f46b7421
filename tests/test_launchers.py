"""What launchers/ hands to Slurm, Kubernetes and Ray: with stand-ins for their commands, and no cluster."""

import json
import os
import re
import runpy
import subprocess
import sys
import types

import pytest
import yaml

from tests.helpers import ROOT

LAUNCHERS = ROOT / "launchers"
HOSTS = ["node3", "node7", "node8"]

# As Slurm's own: https://slurm.schedmd.com/scontrol.html and srun.html
SCONTROL = """
if [ "$1 $2" = "show hostnames" ] && [ "$3" = "node[3,7-8]" ]; then printf '%s\\n' node3 node7 node8
else echo "$@" >> scontrol.log; fi
"""
SRUN = """
while [ "${1:0:2}" = -- ]; do echo "$1" >> srun.log; shift; done
code=0
for node in 0 1 2; do SLURM_NODEID=$node "$@" || code=$?; done
exit $code
"""
WORKER = """
printf '%s' "$TF_CONFIG" > config-$SLURM_NODEID.json
printf '%s\\n' "$@" > arguments-$SLURM_NODEID.txt
exit ${CODE:-0}
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs the script as a job of three nodes; returns its exit code."""
    for name, text in {"scontrol": SCONTROL, "srun": SRUN, "cskd-tf": WORKER}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / name).chmod(0o755)

    def run(*arguments, **environment):
        job = {"SLURM_JOB_NODELIST": "node[3,7-8]", "SLURM_JOB_ID": "4711", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = ["bash", str(LAUNCHERS / "slurm.sh"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, **job, **environment}, check=False).returncode

    return run


def test_slurm_tells_each_node_its_place(slurm, tmp_path):
    assert slurm("--workdir=/shared/my run", "--config.epochs=2") == 0
    for index in range(3):
        assert json.loads((tmp_path / f"config-{index}.json").read_text()) == {
            "cluster": {"worker": [f"{host}:24711" for host in HOSTS]},
            "task": {"type": "worker", "index": index},
        }
        arguments = (tmp_path / f"arguments-{index}.txt").read_text().splitlines()
        assert arguments == ["--workdir=/shared/my run", "--config.epochs=2"]
    assert not (tmp_path / "scontrol.log").exists()


def test_slurm_queues_a_job_again_that_has_saved(slurm, tmp_path):
    assert slurm(CODE="1") == 1
    assert not (tmp_path / "scontrol.log").exists()
    assert slurm(CODE="143") == 143
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"


def test_slurm_reads_its_options_before_the_first_command():
    lines = (LAUNCHERS / "slurm.sh").read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert options
    assert max(options) < min(commands)
    assert "--ntasks-per-node=1" in "".join(lines[: min(commands)])


# Of what is used here, the fields that there are: JobSet's of config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml
# in kubernetes-sigs/jobset, v1alpha2; the others of https://kubernetes.io/docs/reference/kubernetes-api
FIELDS = {
    "JobSet": {"apiVersion": str, "kind": str, "metadata": "Metadata", "spec": "JobSetSpec"},
    "Metadata": {"name": str, "namespace": str, "labels": dict, "annotations": dict},
    "JobSetSpec": {
        "failurePolicy": "FailurePolicy",
        "network": "Network",
        "replicatedJobs": ["ReplicatedJob"],
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
    "FailurePolicy": {"maxRestarts": int, "restartStrategy": str, "rules": ["FailureRule"]},
    "FailureRule": {"action": str, "name": str, "onJobFailureReasons": [str], "targetReplicatedJobs": [str]},
    "Network": {"enableDNSHostnames": bool, "subdomain": str, "publishNotReadyAddresses": bool},
    "ReplicatedJob": {"name": str, "replicas": int, "template": "JobTemplate"},
    "JobTemplate": {"metadata": "Metadata", "spec": "JobSpec"},
    "JobSpec": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "completionMode": str,
        "completions": int,
        "parallelism": int,
        "podFailurePolicy": "PodFailurePolicy",
        "template": "PodTemplate",
    },
    "PodFailurePolicy": {"rules": ["PodFailureRule"]},
    "PodFailureRule": {"action": str, "onExitCodes": "ExitCodes", "onPodConditions": ["PodCondition"]},
    "ExitCodes": {"containerName": str, "operator": str, "values": [int]},
    "PodCondition": {"status": str, "type": str},
    "PodTemplate": {"metadata": "Metadata", "spec": "PodSpec"},
    "PodSpec": {
        "containers": ["Container"],
        "restartPolicy": str,
        "terminationGracePeriodSeconds": int,
        "volumes": ["Volume"],
    },
    "Container": {
        "args": [str],
        "command": [str],
        "env": ["Variable"],
        "image": str,
        "name": str,
        "ports": ["Port"],
        "resources": "Resources",
        "volumeMounts": ["Mount"],
    },
    "Variable": {"name": str, "value": str, "valueFrom": "ValueSource"},
    "ValueSource": {"fieldRef": "FieldRef"},
    "FieldRef": {"fieldPath": str},
    "Port": {"containerPort": int, "name": str, "protocol": str},
    "Resources": {"limits": dict, "requests": dict},
    "Mount": {"mountPath": str, "name": str, "readOnly": bool, "subPath": str},
    "Volume": {"name": str, "persistentVolumeClaim": "Claim", "emptyDir": "EmptyDir"},
    "Claim": {"claimName": str, "readOnly": bool},
    "EmptyDir": {"medium": str, "sizeLimit": str},
}


def check_fields(value, kind, path):
    if isinstance(kind, list):
        assert isinstance(value, list), path
        for number, item in enumerate(value):
            check_fields(item, kind[0], f"{path}[{number}]")
    elif isinstance(kind, str):
        assert isinstance(value, dict), path
        for key, item in value.items():
            assert key in FIELDS[kind], f"{path}: {kind} has no {key}"
            check_fields(item, FIELDS[kind][key], f"{path}.{key}")
    else:
        assert type(value) is kind, path


def test_kubernetes_knows_every_field():
    job_set = yaml.safe_load((LAUNCHERS / "kubernetes.yaml").read_text())
    check_fields(job_set, "JobSet", "JobSet")
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    pod = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    misspelt = yaml.safe_load((LAUNCHERS / "kubernetes.yaml").read_text().replace("backoffLimit", "backofLimit"))
    with pytest.raises(AssertionError, match="JobSpec has no backofLimit"):
        check_fields(misspelt, "JobSet", "JobSet")


def test_kubernetes_tells_each_pod_its_place():
    job_set = yaml.safe_load((LAUNCHERS / "kubernetes.yaml").read_text())
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


@pytest.fixture
def ray(monkeypatch):
    """Ray's names that the script imports, which keep what they are given; `fit` runs the function of a worker here."""
    given = {}

    class Trainer:
        def __init__(self, work, **options):
            given.update(options)
            self.fit = lambda: work(options["train_loop_config"])

    train = types.ModuleType("ray.train")
    for name in ("FailureConfig", "RunConfig", "ScalingConfig"):
        setattr(train, name, lambda **options: options)
    tensorflow = types.ModuleType("ray.train.tensorflow")
    tensorflow.TensorflowTrainer = Trainer
    modules = {"ray": types.ModuleType("ray"), "ray.train": train, "ray.train.tensorflow": tensorflow}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return given


def test_ray_runs_the_command_in_each_worker(ray, monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", "of Ray")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # as Ray sets it
    script = tmp_path / "worker.py"
    script.write_text("import os; print(os.environ.get('TF_USE_LEGACY_KERAS'), os.environ['TF_CONFIG'])")
    command = ["sh", "-c", f"{sys.executable} {script} > {tmp_path / 'told'}"]
    monkeypatch.setattr(sys, "argv", ["ray_train.py", "--workers=3", "--gpus=2", "--", *command])
    runpy.run_path(str(LAUNCHERS / "ray_train.py"), run_name="__main__")
    assert (tmp_path / "told").read_text() == "None of Ray\n"
    resources = {"num_workers": 3, "use_gpu": True, "resources_per_worker": {"CPU": 1, "GPU": 2}}
    assert ray["scaling_config"] == resources
    assert ray["run_config"] == {"failure_config": {"max_failures": 3}}


def test_ray_hears_of_a_worker_that_failed(ray, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ray_train.py", "--workers=1", "--", sys.executable, "-c", "exit(3)"])
    with pytest.raises(subprocess.CalledProcessError):
        runpy.run_path(str(LAUNCHERS / "ray_train.py"), run_name="__main__")
    assert ray["scaling_config"] == {"num_workers": 1, "use_gpu": False, "resources_per_worker": {"CPU": 1}}


def test_every_launcher_is_in_the_page():
    page = (ROOT / "docs" / "distributed.md").read_text()
    linked = set(re.findall(r"\]\(\.\./(launchers/\w+\.\w+)\)", page))
    assert linked == {f"launchers/{path.name}" for path in LAUNCHERS.iterdir() if path.is_file()}
