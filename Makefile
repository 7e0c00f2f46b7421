# `make train` and `make test` set up .venv by themselves; everything else builds on it.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
# Bytecode is compiled as modules are imported: of all modules at once it takes half of the time of an installation.
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
# Where it is set, as in many containers, each start would compile TensorFlow and Keras anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test thorough newcomer papers parity detection runtimes loggers clusters slow kills soak mutations lint format table benchmark docs dist \
	installed clean

train: .venv/train
	$(BIN)/python train_main.py

test: .venv/test
	$(BIN)/python -m pytest

# Further cases of what `make test` does once, two workers, and faults that are rarer: 15 minutes.
thorough: .venv/test
	$(BIN)/python -m pytest -m "thorough and not slow"

# The longer commands of README and docs as they stand, those that need folders, and the notebook: 10 minutes.
newcomer: .venv/test
	$(BIN)/python -m pytest -m newcomer

# A step of every experiment of the papers, and of every pair of methods, at toy size: 10 minutes.
papers: .venv/test
	$(BIN)/python -m pytest -m papers

# Every network against the same one in PyTorch, its checkpoints, and metrics: 4 minutes. PyTorch is 200 MB to install as the
# build for the CPU; what PyPI has for Linux brings CUDA, gigabytes.
parity: .venv/parity
	$(BIN)/python -m pytest -m parity

# What needs KerasHub, which this installs: its presets as networks, and a backbone of ours under its detector.
detection: .venv/detection
	$(BIN)/python -m pytest -m detection

# Exports for ONNX, LiteRT, OpenVINO and a page in Chromium, all of which this installs but for Chromium: 10 minutes.
runtimes: .venv/export
	$(BIN)/python -m pytest -m runtimes

# Logs in Weights & Biases and MLflow, and TensorBoard's profiles in Chromium; this installs all but Chromium: 3 minutes.
loggers: .venv/loggers
	$(BIN)/python -m pytest -m loggers

# launchers/ on Ray, which this installs, and on a Slurm of this machine, which takes root and Debian's slurm-wlm and munge:
# 10 minutes.
clusters: .venv/clusters
	$(BIN)/python -m pytest -m clusters

# What guards against rare faults, and takes minutes.
slow: .venv/test
	$(BIN)/python -m pytest -m slow

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Runs of several methods are killed N times at random calls that change their files, and go on to the same bytes.
N ?= 20
kills: .venv/train
	$(BIN)/python -m benchmarks.kills --random=$(N) --chain=4 --case=cskd,pskd,adacos,byot,mixup,dropout,baseline,workers,second_worker

# Whether a long run's process grows: 5,000 steps, an evaluation and a checkpoint every 10.
soak: .venv/train
	$(BIN)/python -m benchmarks.soak

# 10,000 images and 1,000 command lines as nobody means them; --seed=S --first=N tries a case again: an hour.
mutations: .venv/train
	$(BIN)/python -m benchmarks.mutations

# The README's results table, of five seeds, and results/digits.json.
table: .venv/train
	$(BIN)/python -m benchmarks.digits

benchmark: .venv/train
	$(BIN)/python -m benchmarks.step_time
	$(BIN)/python -m benchmarks.first_step
	$(BIN)/python -m benchmarks.evaluation_speed
	$(BIN)/python -m benchmarks.recall_speed
	$(BIN)/python -m benchmarks.data_wait
	$(BIN)/python -m benchmarks.workers_speed
	$(BIN)/python -m benchmarks.serving_latency
	$(BIN)/python -m benchmarks.network_speed
	$(BIN)/python -m benchmarks.method_cost
	for case in arrays32 folder64 folder500; do $(BIN)/python -m benchmarks.pipeline_speed --case=$$case || exit 1; done
	$(BIN)/python -m benchmarks.pairing_speed

# README, docs and docstrings as pages to be read without network: site/index.html. Every warning is an error.
docs: .venv/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -b html -c docs . site
	@echo "The pages: site/index.html"

# Wheel and source distribution in dist/, and their sizes.
dist: .venv/test
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	@ls -l dist | awk 'NR > 1 { printf "%s: %.0f KiB\n", $$9, $$5 / 1024 }'

# Each of the two in an environment of its own, beside the newest packages that it allows; then an epoch of training.
installed: dist
	for file in dist/*.whl dist/*.tar.gz; do \
		rm -rf build/installed && $(BIN)/python -m venv build/installed \
		&& build/installed/bin/python -m pip install --quiet --disable-pip-version-check $$file \
		&& (cd build && installed/bin/cskd-tf --workdir=installed/run --config.epochs=1 --config.baseline=False \
			--config.export.directory=installed/saved_models) || exit 1; \
	done

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Expected Python 3.11, 3.12 or 3.13 on the PATH, or make PYTHON=...; found none."; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version) ..."
	$(PYTHON) -m venv .venv

.venv/train: requirements.txt | .venv/bin/python
	@echo "Installing requirements.txt into .venv (about a minute) ..."
	$(INSTALL) -r requirements.txt
	@touch $@

.venv/test: requirements.txt requirements-dev.txt | .venv/bin/python
	@echo "Installing requirements-dev.txt into .venv (about a minute) ..."
	$(INSTALL) -r requirements-dev.txt
	@touch $@ .venv/train

.venv/detection: requirements-detection.txt .venv/test | .venv/bin/python
	@echo "Installing requirements-detection.txt into .venv (a minute) ..."
	$(INSTALL) -r requirements-detection.txt
	@touch $@

.venv/export: requirements-export.txt .venv/test | .venv/bin/python
	@echo "Installing requirements-export.txt into .venv (a minute) ..."
	$(INSTALL) -r requirements-export.txt
	@touch $@

.venv/loggers: requirements-loggers.txt .venv/test | .venv/bin/python
	@echo "Installing requirements-loggers.txt into .venv (a minute) ..."
	$(INSTALL) -r requirements-loggers.txt
	@touch $@

.venv/clusters: requirements-clusters.txt .venv/test | .venv/bin/python
	@echo "Installing requirements-clusters.txt into .venv (a minute) ..."
	$(INSTALL) -r requirements-clusters.txt
	@touch $@

.venv/docs: requirements-docs.txt .venv/train | .venv/bin/python
	@echo "Installing requirements-docs.txt into .venv ..."
	$(INSTALL) -r requirements-docs.txt
	@touch $@

.venv/parity: requirements-parity.txt requirements-torch.txt .venv/test | .venv/bin/python
	@echo "Installing requirements-parity.txt into .venv ..."
	$(INSTALL) -r requirements-parity.txt
	@touch $@

clean:
	rm -rf .venv
