# make          what there is to do
# Everything runs in .venv, which the first target makes and later ones leave alone.
# Without engines: EXTRAS=dev with every target (make check EXTRAS=dev); what is missing is added to it.

EXTRAS ?= cpu,demo,dev
BIN := .venv/bin

.PHONY: help setup demo up check lint unit test proto metrics-table dashboards cli-docs pictures peers peers-gateway images verify constraints

help:
	@echo "make demo    a remote prefill on this machine, start to end, without a GPU"
	@echo "make up      the same stack, left running until Ctrl-C"
	@echo "make test    lint, types and all tests, real engines included"
	@echo "make check   lint, types and unit tests, in under a minute"
	@echo "make images  the container images of the gateway and of an engine without a GPU (docs/deployment.md)"
	@echo "make verify  builds them, runs two sites in containers, breaks things, takes all down (deploy/verify)"
	@echo "make constraints  resolves the versions in the images anew"
	@echo "make setup   only the set-up in .venv (all others do it too)"
	@echo "make peers   what benchmarks compare with, in .venv-peers"
	@echo "make peers-gateway  the gateways that benchmarks compare with, in .venv-peers-gateway"
	@echo "make proto   generate the protobuf code again"
	@echo "make metrics-table  the table in docs/metrics.md"
	@echo "make dashboards     deploy/grafana/dashboards, from build.py beside them"
	@echo "make cli-docs  write docs/cli.md again"
	@echo "make pictures TRACE=conversation_trace.jsonl  those of docs/planning.md"

setup:
	@python3 scripts/setup_venv.py --extras $(EXTRAS)

# Not what developers need: a newcomer is waiting.
demo up: EXTRAS = cpu,demo

demo: setup
	@$(BIN)/prfaas demo

up: setup
	@$(BIN)/prfaas up

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Many of them wait more than they compute. Those of the engine package go apart: importing vLLM takes ten seconds.
unit: setup lint
	$(BIN)/pytest -q -n 4 --dist worksteal -m "not engine and not slow" --ignore tests/engine
	$(BIN)/pytest -q -m "not engine and not slow" tests/engine

check: lint unit

# Engines take a core each, so their tests come one after the other, alone.
test: lint
	$(BIN)/pytest -q -n 3 --dist worksteal -m "not engine"
	$(BIN)/pytest -m engine --durations=15

# iperf3 and the libraries of RDMA come from the system: apt-get install iperf3 libibverbs1 librdmacm1 libnuma1
peers:
	python3 -m venv .venv-peers
	.venv-peers/bin/pip install --no-deps nixl nixl-cu12 numpy msgpack mooncake-transfer-engine-non-cuda

peers-gateway:
	python3 -m venv .venv-peers-gateway
	.venv-peers-gateway/bin/pip install vllm-router sglang-router 'litellm[proxy]' prometheus-client

# With one GPU more: docker build --target engine-gpu -t prfaas-engine-gpu:dev .
images:
	docker build --target gateway -t prfaas-gateway:dev .
	docker build --target engine-cpu -t prfaas-engine-cpu:dev .

verify: setup
	deploy/verify

constraints: setup
	$(BIN)/python scripts/constraints.py

proto: setup
	$(BIN)/python -m prfaas.wire.generate

metrics-table: setup
	$(BIN)/python -m prfaas.observe.catalogue docs/metrics.md

dashboards: setup
	$(BIN)/python -m deploy.grafana.build

cli-docs: setup
	$(BIN)/python scripts/cli_docs.py

# TRACE: conversation_trace.jsonl of Mooncake's FAST '25 release
pictures: setup
	$(BIN)/prfaas plan deploy/plan/case_study.yaml --out build/case_study
	$(BIN)/prfaas plan deploy/plan/mooncake.yaml --trace $(TRACE) --out build/mooncake
	mkdir -p docs/pictures
	for name in threshold division first_token; do cp build/case_study/$$name.png docs/pictures/case_study-$$name.png; done
	for name in utilisation threshold purchases; do cp build/mooncake/$$name.png docs/pictures/mooncake-$$name.png; done
