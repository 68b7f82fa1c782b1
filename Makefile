# Every target works from a fresh clone. "make help" lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help

GO ?= go
BENCH ?= .
FUZZTIME ?= 10s
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/keywright

# A test against a real peer has "Real" in its name. Those that need a peer that "make peers" installs stand in files
# *_real_test.go behind the build tag "real".
REAL_TESTS = $(shell grep -rlE --include='*_test.go' '^func Test[A-Za-z0-9_]*Real' . | xargs -rn1 dirname | sort -u)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./bin/keywright, static and stripped
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/keywright ./cmd/keywright

.PHONY: demo
demo: build ## build, then rotate a key end to end against the simulator
	./bin/keywright demo

.PHONY: test
test: cc ## run all tests that need nothing but Go and a C compiler
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 20m ./...
	$(GO) test -shuffle=on -timeout 20m ./internal/runner # the whole crash and failure matrices; the race detector saw a sample

.PHONY: test-real
test-real: cc real-names ## run the tests against real peers: PostgreSQL, Kubernetes, Docker, Moto
	@tools/peers.sh || [ "$$CI" != true ]
	CGO_ENABLED=1 $(GO) test -tags real -race -shuffle=on -p 2 -timeout 40m -run Real $(filter-out ./internal/runner,$(REAL_TESTS))
	$(GO) test -tags real -shuffle=on -timeout 30m -run Real ./internal/runner # each crash with each failure: too many cases for the race detector

.PHONY: peers
peers: ## install or build the real peers; root on Debian installs packages
	@tools/peers.sh

.PHONY: bench
bench: ## run the benchmarks and time the built program; BENCH=regexp picks some
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./...
	$(GO) run ./test/bench

.PHONY: bench-gateway
bench-gateway: ## the gateway's targets in one table, beside a bare reverse proxy; ROWS=2,3 picks rows, SIZE=10 makes 2 to 8 a tenth, ROUNDS is for 1; times the keyring too
	$(GO) run ./test/bench/gateway -rounds $(or $(ROUNDS),10) -size $(or $(SIZE),100) -rows '$(ROWS)'
	$(GO) test -run '^$$' -bench Value -benchmem ./keyring

.PHONY: soak-gateway
soak-gateway: ## load the gateway for DURATION, 1h if not set, with a new key each minute
	$(GO) run ./test/bench/gateway soak -duration $(or $(DURATION),1h)

.PHONY: bench-scan
bench-scan: ## time the scan of histories against git; BENCH_REPOS names repositories
	$(GO) run ./test/bench/scan

.PHONY: plant-scan
plant-scan: ## plant keys in files and repositories, scan them, and compare with the truth; SEEDS sets how many times
	$(GO) run ./internal/tools/plantkeys -seeds $(or $(SEEDS),3)

.PHONY: fuzz-short
fuzz-short: ## fuzz each target for FUZZTIME, 10s if not set
	@set -e; grep -rE --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]+' . | sort -u | while IFS=: read -r file func; do \
		name=$${func#func }; echo "$$(dirname "$$file") $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null; \
	done

.PHONY: cover
cover: ## run the tests with coverage, per package and in all; bin/cover.out keeps it
	@mkdir -p bin
	$(GO) test -shuffle=on -timeout 20m -coverprofile=bin/cover.out ./...
	@$(GO) tool cover -func=bin/cover.out | tail -n 1

.PHONY: lint
lint: $(CACHE)/lint/golangci-lint ## run the linters of .golangci.yml over all code, real-peer tests included
	$< run --build-tags real ./...
	@! { grep -rl --include='*_test.go' 'time\.Sleep(' . | xargs -r grep -L '"testing/synctest"' | grep .; } || \
		{ echo 'lint: the tests above sleep outside a testing/synctest bubble' >&2; exit 1; }

# go build does nothing when the program is up to date, so it is asked each time.
.PHONY: $(CACHE)/lint/golangci-lint
$(CACHE)/lint/golangci-lint:
	@CGO_ENABLED=0 $(GO) -C tools/lint build -trimpath -ldflags '-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: vuln
vuln: ## look up known vulnerabilities of the modules in use; needs the Go vulnerability database
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

.PHONY: generate
generate: ## write all generated files (zz_gen_*) anew
	$(GO) generate ./...

.PHONY: fresh
fresh: ## fail if generated files are not what "make generate" writes
	@before=$$($(SUMS)); $(MAKE) --no-print-directory generate && after=$$($(SUMS)) && \
	if [ "$$before" != "$$after" ]; then \
		echo 'fresh: generated files were stale; they are written anew, commit them' >&2; exit 1; \
	fi
SUMS = find . -name 'zz_gen_*' -type f -exec sha256sum {} + | sort -k 2

.PHONY: tidy
tidy: ## fail if a go.mod or go.sum is not what "go mod tidy" writes
	$(GO) mod tidy -diff
	@for dir in tools/*/; do [ ! -f "$$dir/go.mod" ] || { echo "$(GO) -C $$dir mod tidy -diff"; $(GO) -C "$$dir" mod tidy -diff; } || exit 1; done

.PHONY: check
check: lint fresh tidy test ## all that a change must pass before it is sent in, but for test-real

# The race detector needs a C compiler.
.PHONY: cc
cc:
	@command -v "$$($(GO) env CC)" >/dev/null || tools/peers.sh cc

# test-real picks tests by name, so a real-peer test with another name would never run.
.PHONY: real-names
real-names:
	@! find . -name '*_real_test.go' -exec grep -HnE '^func Test' {} + | grep -vE 'func Test(Main\(|[A-Za-z0-9_]*Real)' || \
		{ echo 'real-names: the tests above need "Real" in their names' >&2; exit 1; }
