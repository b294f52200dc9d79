# make test    everything, on a real Spark Connect server and a real HDFS (the README's second command)
# make check   formatting, vet, staticcheck, import policy, docs
# make race    the concurrent packages under the race detector
# make bench   the benchmarks of BENCHMARKS.md
# make bench-peers   training steps beside those of JAX, PyTorch and TensorFlow (downloads them once; several GB)

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build test check race bench bench-peers fuzz clean

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

PEERS = trainers/testdata/peers

bench-peers: out/peers/requirements.txt
	$(GO) build -o out/peers/ours $(PEERS)/ours.go
	out/peers/bin/python $(PEERS)/peers.py --ours out/peers/ours

out/peers/requirements.txt: $(PEERS)/requirements.txt
	python3 -m venv out/peers
	out/peers/bin/pip install --quiet --requirement $<
	cp $< $@

clean:
	rm -rf bin out examples/*/out
