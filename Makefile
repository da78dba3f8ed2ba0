# pgtier. `make help` lists the targets; CI calls the same ones (.ci/run).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo test lint fmt bench fuzz regress setup clean

VERSION ?= $(shell git describe --tags --dirty 2>/dev/null || echo 0.1.0-dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(patsubst v%,%,$(VERSION)) -X main.commit=$(COMMIT)

# golangci-lint is built through the Go module proxy: about a minute once, then cached in bin/.
LINT_VERSION := v2.15.0
LINT := bin/golangci-lint-$(LINT_VERSION)

# How long each fuzz target runs, and how long one package's tests may take on a busy machine.
FUZZTIME ?= 10s
TESTTIMEOUT ?= 40m
# What demo and bench are given, for example: make demo ARGS='--replicas 2'
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/pgtier
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/pgtier ./cmd/pgtier

demo: setup build ## start PostgreSQL servers, sample data and the proxy; Ctrl-C removes them
	bin/pgtier demo $(ARGS)

# The second run takes guards out and must see what they are for; the third counts bytes, to which the race detector would add, and is built as `build` is,
# as are vet and lint: the parser's C code takes two minutes of two cores for each way of building.
test: setup ## vet and test everything with the race detector, against real servers
	go vet -trimpath ./...
	go test -race -timeout $(TESTTIMEOUT) ./...
	go test -race -timeout $(TESTTIMEOUT) -tags weaken -run TestGuard ./proxy
	go test -trimpath -timeout $(TESTTIMEOUT) -run 'AllocateNothing|AreSmall' ./proxy

lint: $(LINT) ## run golangci-lint, gofmt included
	GOFLAGS=-trimpath $(LINT) run ./...

fmt: ## gofmt every file
	gofmt -l -w $$(git ls-files '*.go')

bench: setup build ## measure beside PgBouncer and Pgpool-II; results in bench/results
	go run ./bench $(ARGS)

fuzz: ## run each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

regress: setup build ## run PostgreSQL's own regression tests through the proxy and compare
	go run ./bench/regress $(ARGS)

setup: ## install what the machine lacks (PostgreSQL and poolers, by apt)
	@.ci/setup

clean: ## remove what was built
	rm -rf bin bench/out
	go clean -testcache

$(LINT):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/golangci-lint $@
