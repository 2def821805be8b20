# build: the binary; test: everything, after installing what the tests need;
# lint: format and static analysis; bench: the benchmarks; demo: two clones of
# the example shop on this machine, until Ctrl-C.

GO          ?= go
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   := gotest.tools/gotestsum@v1.13.0

.PHONY: build test lint bench demo

build:
	$(GO) build -trimpath -o bin/ ./cmd/clonegate

# Tests that need a program this machine does not have are skipped, and listed
# with "NOT TESTED" at the end.
test: lint
	.ci/install
	$(GO) run $(GOTESTSUM) --format pkgname-and-test-fails --hide-summary output -- -race -timeout 14m ./...

lint:
	@unformatted=$$($(GO) run $(GOFUMPT) -l .); test -z "$$unformatted" || { echo "not formatted by gofumpt:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

demo: build
	mkdir -p build/shop
	cp -r examples/shop/template.yaml examples/shop/startup.sh examples/shop/data build/shop/
	$(GO) build -trimpath -o build/shop/bin/shop ./examples/shop/cmd/shop
	bin/clonegate demo --template build/shop
