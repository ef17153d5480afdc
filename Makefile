# What to type. `make demo` and `make test` are the two that matter.
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS   := -s -w -X main.version=$(VERSION)
LINT      := $(GO) tool -modfile=$(CURDIR)/test/lint/go.mod staticcheck
PACKAGES  := ./cmd/... ./internal/... ./examples/... ./test/scale/... ./test/soak/...

.PHONY: help build image demo test tools lint unit integration kube e2e conformance helm gateway \
	cluster-up cluster-down kubectl bench bench-tls pgo scale soak fuzz docs manifests clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

build: ## Build bin/gatehouse, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gatehouse ./cmd/gatehouse

image: ## Build the image gatehouse:VERSION with docker
	docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) -t gatehouse:$(VERSION) .

demo: build ## Serve the shop of examples/ with backends of its own; DEMOFLAGS="--http-addr :80 ..." are its flags
	./bin/gatehouse demo $(DEMOFLAGS)

test: tools lint unit integration e2e ## Run all tests (root and apt install what they need), then the gate of the benchmark
	$(MAKE) bench BENCH=gate

tools: ## Install what tests need: a C compiler for the race detector
	@test/tools.sh

lint: ## gofmt, go vet, staticcheck of all modules
	@test/lint/lint.sh '$(GO)' '$(LINT)' $(PACKAGES)

unit: ## Unit tests, scenarios and fuzz seeds, with the race detector
	$(GO) test -race $(PACKAGES)

# Without the cache of results (-count=1): they hang on a binary that it does not see.
integration: kube conformance helm gateway ## Against real API servers, clusters, clients and judges
	cd test/bench && $(GO) vet ./... && $(GO) test -count=1 ./...

kube: ## Against a real etcd and kube-apiserver; the cluster itself
	cd test/kube && $(GO) run ./cmd/prebuild && $(GO) vet ./... && \
		$(GO) test -race -count=1 -p 2 -timeout 30m $$($(GO) list ./... | grep -v /e2e)

e2e: ## Installed by its chart in a real cluster of three nodes: ways in, changes under load, faults, scale
	cd test/kube && $(GO) run ./cmd/prebuild && $(GO) test -count=1 -parallel 6 -timeout 40m ./e2e

NODES ?= 3

cluster-up: ## Start a real cluster of NODES=3 nodes on this machine (root), and say how to get in
	cd test/kube && $(GO) run ./cmd/cluster up -nodes $(NODES)

cluster-down: ## Take it down, or away what is left of it
	cd test/kube && $(GO) run ./cmd/cluster down

kubectl: ## In that cluster: make kubectl ARGS="get pods -A"
	@cd test/kube && $(GO) run ./cmd/cluster kubectl $(ARGS)

conformance: ## h2spec, gRPC, WebSocket, TLS clients
	cd test/conformance && $(GO) vet ./... && $(GO) test -count=1 -timeout 20m ./...

helm: ## The chart, the manifests and the Dockerfile
	cd test/helm && $(GO) vet ./... && $(GO) test -count=1 ./...

gateway: ## The Gateway API's conformance suite, and what all judges say
	cd test/gateway && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd test/judges && $(GO) vet ./... && $(GO) test -count=1 ./...

BENCH ?= full
BENCHOUT_full = -o ../../docs/PERFORMANCE.md -json ../../docs/performance.json

bench: ## Measure against the peers: BENCH=full writes docs/PERFORMANCE.md, quick is a look, gate is for CI
	cd test/bench && $(GO) run . -bench $(BENCH) $(BENCHOUT_$(BENCH)) $(BENCHFLAGS)

TLSROWS := tls,tls-64k,bridging,bridging-h2,passthrough,passthrough-1m,h2,p256,rsa,resumed
bench-tls: ## Of that the three TLS modes, HTTP/2 and handshakes; other rows stay as the last full run left them
	cd test/bench && $(GO) run . -bench full -workloads $(TLSROWS) $(if $(wildcard docs/performance.json),-earlier ../../docs/performance.json) \
		$(BENCHOUT_full) $(BENCHFLAGS)

PGOROWS := plain,log,browser,post,tls,tls-64k,h2,p256,new,hosts,passthrough
pgo: ## Renew cmd/gatehouse/default.pgo, with which the compiler optimises; then build from scratch takes minutes
	dir=$$(mktemp -d) && (cd test/bench && $(GO) run . -bench quick -peers gatehouse -workloads $(PGOROWS) -rounds 1 -length 6s -profiles $$dir) && \
		$(GO) tool pprof -proto $$dir/*.pprof >$$dir/default.pgo && mv $$dir/default.pgo cmd/gatehouse/default.pgo && rm -r $$dir

scale: ## Measure clusters of 100 to 50,000 Ingresses: writes docs/SCALE.md, its curves and docs/scale.json
	$(GO) run ./test/scale $(SCALEFLAGS)

soak: ## Overload Gatehouse for a minute in namespaces of its own (root), and say who broke what: SOAKFLAGS="-stalled 10000"
	$(GO) run ./test/soak $(SOAKFLAGS)

fuzz: ## Each fuzz target for 30 s
	@test/fuzz.sh '$(GO)' 30s

docs: ## Generate docs/annotations.md, docs/flags.md and docs/CONFORMANCE.md
	$(GO) test ./internal/translate/ingress -run Annotations -update
	$(GO) test ./internal/app -run FlagsDocumented -update
	cd test/judges && $(GO) test . -update

manifests: ## Render deploy/kubernetes, the chart's README and its schema
	cd test/helm && $(GO) test -count=1 -run 'Manifests|Readme|Flags' . -update

clean: ## Remove what was built
	rm -rf bin
