#!/usr/bin/env bash
# A worker on each node, with all GPUs of the node. Options of sbatch stand before this file, cskd-tf's behind it:
#   sbatch --nodes=2 --gpus-per-node=4 --cpus-per-task=32 launchers/slurm.sh \
#     --config=configs/imagenet2012.py --workdir=/shared/run
# Without --cpus-per-task a worker gets a single CPU. A job whose time is up saves, and is queued again.
#SBATCH --job-name=cskd_tf
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

port=$((20000 + SLURM_JOB_ID % 10000)) # another one for each job: jobs may share a node
CSKD_TF_WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export CSKD_TF_WORKERS PYTHONUNBUFFERED=1

# In each task: its TF_CONFIG, and then cskd-tf in place of the shell, so that it is the one which SIGTERM reaches.
# shellcheck disable=SC2016
task='export TF_CONFIG="{\"cluster\": {\"worker\": [$CSKD_TF_WORKERS]},
  \"task\": {\"type\": \"worker\", \"index\": $SLURM_NODEID}}"
exec cskd-tf "$@"'

# The first worker that has saved, and ends with 143, must not end those that still save.
code=0
srun --label --kill-on-bad-exit=0 bash -c "$task" cskd-tf "$@" || code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
