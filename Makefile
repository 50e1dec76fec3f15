# make demo    run the whole system at laptop size; the report is runs/demo/report.html
# make test    lint, types, unit tests, and end-to-end tests on real Ray, DeepSpeed and vLLM
# make test-all   those and the slow ones: replicas, nodes and drivers that come, go and are killed
# make test-cluster   a cluster of hosts of its own, in network namespaces, and their faults; needs root
# make test-clients   unmodified clients from their registries against the server; needs npm, writes docs/clients.md
# make docs    the documentation site in site/; adds the `docs` extra to .venv
# make lock    resolve dependencies anew: requirements/cpu.txt, and what the images hold (requirements/image-*.txt)
# make image   build the image of deploy/images (TARGET=gpu or cpu, NAME=registry/s1ray); needs docker, and once `make lock-images`
# make bench-cluster   simulate the stages on 16 to 1,000 GPUs
# All set up .venv by themselves, from Python 3.11 and the package registry, and skip that when nothing changed.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-all test-cluster test-clients unit bench-forcing bench-training bench-serving bench-autoscaling bench-traces bench-cluster lint format docs lock lock-images image clean

setup:
	@$(PYTHON) requirements/install.py

demo: setup
	@$(BIN)/s1ray demo

# Each test of a whole command, and each worker of Ray, would compile the checkout again.
test test-all test-cluster unit: export PYTHONDONTWRITEBYTECODE =

# Unit tests on two cores, of which a third process uses what the others leave while they wait; end-to-end tests share
# one cluster, one after the other.
test: lint
	@$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --ignore tests/end_to_end
	@$(BIN)/python -m pytest tests/end_to_end

# Of one application, which has HTTP workers by default; once more on a replica that answers HTTP itself.
SERVED = $(addprefix tests/end_to_end/, test_serving.py test_serving_answers.py test_serving_bodies.py \
	test_serving_clients.py test_serving_hostile.py test_served_votes.py test_served_early_exit.py)

test-all: lint
	@$(BIN)/python -m pytest -m "not cluster" --numprocesses 3 --dist worksteal --ignore tests/end_to_end
	@$(BIN)/python -m pytest -m "not cluster" tests/end_to_end
	@S1RAY_TEST_HTTP=direct $(BIN)/python -m pytest -m "not cluster" $(SERVED)

test-cluster: setup
	@$(BIN)/python -m pytest -m cluster tests/cluster

test-clients: setup
	@$(BIN)/python -m tests.clients.run

unit: setup
	@$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --ignore tests/end_to_end

bench-forcing: setup
	@$(BIN)/python -m benchmarks.budget_forcing

bench-training: setup
	@$(BIN)/python -m benchmarks.training

bench-serving: setup
	@$(BIN)/python -m benchmarks.serving throughput

bench-autoscaling: setup
	@$(BIN)/python -m benchmarks.autoscaling

bench-traces: setup
	@$(BIN)/python -m benchmarks.traces

bench-cluster: setup
	@$(BIN)/python -m benchmarks.cluster write

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy --num-workers 2

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@$(BIN)/mkdocs build --strict

lock:
	@$(PYTHON) requirements/install.py --lock

TARGET ?= gpu
NAME ?= s1ray

lock-images:
	@deploy/images/build.sh lock

image:
	@deploy/images/build.sh image $(TARGET) $(NAME)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .clients
