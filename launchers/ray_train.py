"""Trains on a Ray cluster: `python launchers/ray_train.py --workers=2 --gpus=1 -- cskd-tf --workdir=/shared/run`.

What stands behind `--` is the command of each worker; its paths are absolute, as Ray runs it in a folder of its own.
Ray's TensorflowTrainer places the workers and gives each its TF_CONFIG. When one fails, Ray ends all of them and starts
them again. The command is a process of its own, out of reach of Ray's choice of Keras 2.
"""

import argparse
import os
import subprocess

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer


def work(config):
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    subprocess.run(config["command"], env=environment, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, required=True, help="processes, wherever the cluster has room")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each worker")
    parser.add_argument("--tries", type=int, default=3, help="further ones after a failure, from what was saved")
    parser.add_argument("command", nargs="+", help="cskd-tf and its arguments")
    given = parser.parse_args()
    resources = {"GPU": given.gpus} if given.gpus else {}
    trainer = TensorflowTrainer(
        work,
        train_loop_config={"command": given.command},
        scaling_config=ScalingConfig(
            num_workers=given.workers, use_gpu=bool(given.gpus), resources_per_worker={"CPU": 1, **resources}
        ),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=given.tries)),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
