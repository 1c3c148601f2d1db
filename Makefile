# Everything a developer does here. `make` or `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# Version that the binaries report. A release build is made at a tag.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)

# A package that takes longer than this hangs.
TEST_TIMEOUT ?= 15m
# What runs more than one goroutine on purpose.
RACE_PACKAGES ?= $(foreach d,p2p consensus gossip node api client fsm/store internal/faults,./$(d)/...)
# How many packages `make race` tests at once, each on one processor.
RACE_PARALLEL ?= $(shell nproc 2>/dev/null || echo 2)
# How many file system calls of a node's run `make faults` lets fail, one a run.
FAULTS ?= 150
# How long each fuzz target runs.
FUZZTIME ?= 20s
# Benchmarks: which, where, how often (benchstat needs 6 or more to say anything).
BENCH ?= .
BENCH_PACKAGES ?= ./...
BENCH_COUNT ?= 6
# How many proofs `make growth` fills a region with.
GROWTH ?= 1000000
# Statement coverage of all packages together, in percent, below which `make cover` fails.
COVER_MIN ?= 70

# The tools have a module of their own, so that their requirements are not ours.
TOOL := $(GO) tool -modfile=tools/go.mod

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  Set on the command line: TEST_TIMEOUT FUZZTIME BENCH BENCH_PACKAGES BENCH_COUNT BENCH_BASE RACE_PACKAGES COVER_MIN MODEL_CASES FAULTS GROWTH BENCH_ETCD_FLAGS SIM_FLAGS"

.PHONY: build
build: ## Build the programs into bin/
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: test
test: ## Run every test
	$(GO) test -timeout $(TEST_TIMEOUT) ./...
	$(GO) test -C bench -timeout $(TEST_TIMEOUT) ./...

.PHONY: soak
soak: ## What tries longer than `make test` to break the promises: some 25 minutes (needs strace)
	BIZRA_OPERATIONS=200000 $(GO) test -count=1 -timeout 60m -v -run '^TestLinearizable$$' ./consensus/region
	CGO_ENABLED=0 $(GO) run ./internal/faults/cmd/faults

.PHONY: sim-all
sim-all: ## Run every scenario of the simulator at the size that it is meant for: hours (SIM_FLAGS="--small" for minutes)
	@$(GO) build -o bin/ ./cmd/bizra-sim
	@failed=; for f in sim/scenarios/*.yaml; do s=$$(basename $$f .yaml); echo "== $$s"; \
		bin/bizra-sim --scenario $$s --html= $(SIM_FLAGS) || failed="$$failed $$s"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

.PHONY: faults
faults: ## Fail or kill a node at some of its file system calls, and look for what was lost (needs strace)
	CGO_ENABLED=0 $(GO) run ./internal/faults/cmd/faults --sample $(FAULTS) $(FAULTS_FLAGS)

.PHONY: race
# On one processor, since the detector itself crashes otherwise: a timer's channel that has
# expired is filled by whoever reads it, and two readers at once then share the one context that
# a synctest bubble has for its timers (golang/go#78156). What happens before what, by which
# races are found, is the same on one processor.
race: ## Run the tests of what is concurrent under the race detector (needs a C compiler)
	CGO_ENABLED=1 GOMAXPROCS=1 $(GO) test -p $(RACE_PARALLEL) -race -timeout $(TEST_TIMEOUT) $(RACE_PACKAGES)

.PHONY: lint
lint: ## Run golangci-lint and the determinism analyzer
	$(TOOL) golangci-lint run ./...
	cd bench && $(GO) tool -modfile=../tools/go.mod golangci-lint run ./...
	$(GO) run ./internal/detlint/cmd/detlint ./fsm/... ./pci/...

.PHONY: fmt
fmt: ## Format the Go files as lint wants them
	$(TOOL) golangci-lint fmt ./...

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s)
	@GO='$(GO)' tools/fuzz.sh $(FUZZTIME)

.PHONY: model
model: ## Check the model of attestation (needs spin and a C compiler)
	tools/model.sh $(MODEL_CASES)

.PHONY: processors
processors: ## Compute the same log as amd64 v1, amd64 v3 and arm64 (needs qemu-user): the same bytes everywhere
	@GO='$(GO)' tools/processors.sh

.PHONY: bench
bench: bench-micro bench-etcd ## Run all benchmarks: those of the packages, then a region beside etcd

.PHONY: bench-micro
bench-micro: ## Run the packages' benchmarks; BENCH_BASE=FILE compares with an earlier run
	@GO='$(GO)' tools/bench.sh '$(BENCH)' '$(BENCH_COUNT)' $(BENCH_PACKAGES)

.PHONY: bench-etcd
bench-etcd: build ## Measure a region of processes beside an etcd of processes (BENCH_ETCD_FLAGS='-h' lists what can be set)
	@$(GO) build -C bench -trimpath -o ../bin/bench .
	bin/bench --bizra bin/bizra --json bin/bench.json $(BENCH_ETCD_FLAGS)

.PHONY: bench-idle
bench-idle: build ## Measure the memory of voters that do nothing
	@$(GO) build -C bench -trimpath -o ../bin/bench .
	bin/bench --bizra bin/bizra --etcd=false --only none

.PHONY: bench-sim
bench-sim: ## Simulate 10,000 nodes and more, and hold what is measured against its bounds (half an hour, 16 GiB); SIM_FLAGS='--only 20' for one
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/bizra-sim
	bin/bizra-sim yardsticks $(SIM_FLAGS)

.PHONY: growth
growth: ## Fill a region with a million proofs: memory, snapshots, disk and restart at 10,000, 100,000 and 1,000,000
	BIZRA_OPERATIONS=$(GROWTH) $(GO) test -run '^$$' -bench '^BenchmarkGrowth$$' -benchtime 1x -timeout 60m ./e2e

.PHONY: cover
cover: ## Measure coverage per package and in total; fails below COVER_MIN percent
	@GO='$(GO)' tools/cover.sh $(COVER_MIN) $(TEST_TIMEOUT)

.PHONY: vuln
vuln: ## Look for known vulnerabilities (GOVULNDB=URL chooses the database)
	$(TOOL) govulncheck $(if $(GOVULNDB),-db $(GOVULNDB)) ./...

.PHONY: demo
demo: build ## A federation of 12 processes: submit, kill a leader, lose nothing, attest, catch a region that lies, verify offline
	$(GO) build -o bin/ ./deploy/demo
	bin/demo --bizra bin/bizra $(DEMO_FLAGS)

.PHONY: clean
clean: ## Remove what the targets built
	rm -rf bin
