# build: the binary; test: everything, after installing what the tests need;
# lint: format and static analysis; bench: the Go benchmarks; bench-http and
# bench-dns: the comparisons of bench/README.md, with flags in ARGS; demo: two
# clones of the example shop on this machine, until Ctrl-C; image: a container
# image.

GO          ?= go
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   := gotest.tools/gotestsum@v1.13.0

.PHONY: build test lint bench bench-http bench-dns demo image

build:
	$(GO) build -trimpath -o bin/ ./cmd/clonegate

# What the detector of data races would hide is tested without it: how much
# requests and idle connections take, and 20,000 clones that come and go.
UNRACED := Allocat|IdleMemory|^TestChurn$$

# Tests that need a program this machine does not have are skipped, and listed
# with "NOT TESTED" at the end.
test: lint
	.ci/install
	$(GO) run $(GOTESTSUM) --format pkgname-and-test-fails -- -race -timeout 14m ./...
	$(GO) run $(GOTESTSUM) --format pkgname-and-test-fails -- -run '$(UNRACED)' -timeout 5m ./proxy/... ./cmd/clonegate/e2e

lint:
	@unformatted=$$($(GO) run $(GOFUMPT) -l .); test -z "$$unformatted" || { echo "not formatted by gofumpt:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-http bench-dns: bench-%: build
	$(GO) build -trimpath -o build/bench/bin/$@ ./bench/$*
	build/bench/bin/$@ $(ARGS)

demo: build
	mkdir -p build/shop
	cp -r examples/shop/template.yaml examples/shop/startup.sh examples/shop/data build/shop/
	$(GO) build -trimpath -o build/shop/bin/shop ./examples/shop/cmd/shop
	bin/clonegate demo --template build/shop

# SQLite is C and linked statically: without loadable extensions, which would
# need the dynamic linker, and with Go's own resolver and user lookup.
image:
	mkdir -p build/image/data
	chmod 0700 build/image/data
	CGO_ENABLED=1 $(GO) build -trimpath -tags netgo,osusergo,sqlite_omit_load_extension \
		-ldflags '-s -w -linkmode external -extldflags "-static"' -o build/image/clonegate ./cmd/clonegate
	docker build -t clonegate .
