# make test    everything, on a real Spark Connect server and a real HDFS (the README's second command)
# make check   formatting, vet, staticcheck, import policy, docs
# make race    the concurrent packages under the race detector
# make bench   the benchmarks of BENCHMARKS.md

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build test check race bench fuzz clean

build:
	$(GO) build -trimpath -ldflags "-s -w" -o bin/dkpipe ./cmd/dkpipe

test:
	.ci/python .ci/servers $(GO) test -timeout 20m ./...

race: export CGO_ENABLED = 1
race:
	$(GO) test -race -short ./ps/... ./hdfsio/... ./pipeline/... ./trainers/...

check:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "run gofmt -w on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	$(GO) test -run 'TestImportPolicy|TestNoFileIsTooLong|TestDocs' ./cmd/dkpipe

bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./...

clean:
	rm -rf bin out examples/*/out
