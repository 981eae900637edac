# goms: `make` builds, vets, lints and tests with the race detector.

TAGS      := nomsgpack
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
FUZZTIME  ?= 200000x
BENCH     ?= .
PKGS      ?= ./...
ROW       ?=
HOURS     ?= 1

GO        ?= go
TOOLS     := $(CURDIR)/.ci/tools/bin
TOOLBUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w"

.DEFAULT_GOAL := all
.PHONY: all build vet lint fmt test race fuzz bench e2e faults soak cover tidy-check compose-check pebble tools vuln clean help

all: build vet lint race ## build, vet, lint, test with the race detector (the default)

build: ## the binaries, static, into bin/
	CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -ldflags "$(LDFLAGS)" -o bin/ ./cmd/...

vet: ## go vet, with and without the build tag
	$(GO) vet -tags $(TAGS) $(PKGS)
	$(GO) vet $(PKGS)

lint: $(TOOLS)/golangci-lint ## golangci-lint by .golangci.yml
	$(TOOLS)/golangci-lint run $(PKGS)

fmt: $(TOOLS)/golangci-lint ## format the tree
	$(TOOLS)/golangci-lint fmt

test: ## all tests
	$(GO) test -tags $(TAGS) $(PKGS)

race: ## all tests with the race detector
	$(GO) test -race -tags $(TAGS) $(PKGS)

fuzz: ## every fuzz target for FUZZTIME (200000x)
	FUZZTIME=$(FUZZTIME) .ci/fuzz

bench: ## benchmarks with allocations; BENCH picks some by name
	$(GO) test -tags $(TAGS) -run '^$$' -bench '$(BENCH)' -benchmem $(PKGS)

e2e: ## the built binaries against real etcd, nginx and Zipkin, as far as they are installed
	$(GO) test -tags $(TAGS) -count=1 ./test/...

faults: ## the whole fault matrix, one JSON line a row and a table at the end; ROW=F08 picks one; wants root, etcd, nginx; an hour
	GOMS_FAULTS=full $(GO) test -tags $(TAGS) -count=1 -v -timeout 3h -run '^Test$(ROW)' ./test/faults

soak: ## faults drawn at random for HOURS (1) on a system that lives on
	GOMS_SOAK_HOURS=$(HOURS) $(GO) test -tags $(TAGS) -count=1 -v -timeout 0 -run '^TestF51' ./test/faults

cover: ## statement coverage of pkg/ by all tests, into bin/cover.html
	mkdir -p bin
	$(GO) test -tags $(TAGS) -coverpkg=./pkg/... -coverprofile=bin/cover.out $(PKGS)
	$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	$(GO) tool cover -func=bin/cover.out | tail -n 1

tidy-check: ## go.mod and go.sum say what the code needs
	$(GO) mod tidy -diff
	$(GO) mod verify

compose-check: ## deploy/docker-compose.yml, loaded as docker compose would
	cd deploy/composetest && $(GO) test ./...

pebble: $(TOOLS)/pebble ## an ACME authority for tests, into .ci/tools/bin

tools: $(addprefix $(TOOLS)/,golangci-lint etcd etcdctl grpcurl benchstat h2spec pebble) ## the pinned tools, into .ci/tools/bin

$(TOOLS)/golangci-lint: .ci/tools/lint/go.mod
	cd .ci/tools/lint && $(TOOLBUILD) -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/etcd: .ci/tools/go.mod
	cd .ci/tools && $(TOOLBUILD) -o $@ go.etcd.io/etcd/server/v3
$(TOOLS)/etcdctl: .ci/tools/go.mod
	cd .ci/tools && $(TOOLBUILD) -o $@ go.etcd.io/etcd/etcdctl/v3
$(TOOLS)/grpcurl: .ci/tools/go.mod
	cd .ci/tools && $(TOOLBUILD) -o $@ github.com/fullstorydev/grpcurl/cmd/grpcurl
$(TOOLS)/pebble: .ci/tools/pebble/go.mod
	cd .ci/tools/pebble && $(TOOLBUILD) -o $@ github.com/letsencrypt/pebble/v2/cmd/pebble
$(TOOLS)/benchstat: .ci/tools/go.mod
	cd .ci/tools && $(TOOLBUILD) -o $@ golang.org/x/perf/cmd/benchstat
$(TOOLS)/h2spec: .ci/tools/go.mod
	cd .ci/tools && $(TOOLBUILD) -o $@ github.com/summerwind/h2spec/cmd/h2spec

vuln: ## known vulnerabilities in what is linked; needs the internet
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.8.0 -tags $(TAGS) $(PKGS)

clean: ## remove what the targets above made, but not the tools
	rm -rf bin dist

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
