# What to type. `make demo` and `make test` are the two that matter.
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS   := -s -w -X main.version=$(VERSION)
LINT      := $(GO) tool -modfile=test/lint/go.mod staticcheck
PACKAGES  := ./cmd/... ./internal/... ./examples/...

.PHONY: help build demo test tools lint unit integration bench fuzz docs clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

build: ## Build bin/gatehouse, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gatehouse ./cmd/gatehouse

demo: build ## Serve the shop of examples/ with backends of its own
	./bin/gatehouse demo

test: tools lint unit integration ## Run all tests (root and apt install what they need)

tools: ## Install what tests need: a C compiler for the race detector
	@test/tools.sh

lint: ## gofmt, go vet, staticcheck
	@test/lint/lint.sh '$(GO)' '$(LINT)' $(PACKAGES)

unit: ## Unit tests, scenarios and fuzz seeds, with the race detector
	$(GO) test -race $(PACKAGES)

integration: ## Against a real etcd and kube-apiserver
	cd test/kube && $(GO) run ./cmd/prebuild && $(GO) vet ./... && $(GO) test -race -timeout 30m ./...
	cd test/bench && $(GO) vet ./... && $(GO) test ./...

bench: ## Measure against nginx; writes docs/PERFORMANCE.md
	cd test/bench && $(GO) run . -o ../../docs/PERFORMANCE.md

fuzz: ## Each fuzz target for 30 s
	@test/fuzz.sh '$(GO)' 30s

docs: ## Generate docs/annotations.md from the table of annotations
	$(GO) test ./internal/translate/ingress -run Annotations -update

clean: ## Remove what was built
	rm -rf bin
