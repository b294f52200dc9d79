# make test    everything, on a real Spark Connect server and a real HDFS (the README's second command)
# make test-full     the long runs, too: more seeds, ten thousand runs with random faults, every fuzz target, races everywhere
# make test-compat   Spark's part on the versions of SPARKS (downloads each once)
# make check   formatting, vet, staticcheck, import policy, docs
# make race    the concurrent packages under the race detector
# make fuzz    every fuzz target for ten seconds
# make bench   the benchmarks of BENCHMARKS.md
# make bench-trainers   every trainer: accuracy, sweeps, speed, beside PyTorch and JAX; writes README's table (an hour, and an
#              idle machine for bench-speed, its second half). Results that are in trainers/testdata/results are not repeated
# make bench-peers   training steps beside those of JAX, PyTorch and TensorFlow (downloads them once; several GB)

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build test test-full test-compat check race bench bench-peers bench-trainers bench-accuracy bench-speed bench-elephas bench-table fuzz clean

build:
	$(GO) build -trimpath -ldflags "-s -w" -o bin/dkpipe ./cmd/dkpipe

test:
	.ci/python .ci/servers $(GO) test -timeout 60m ./...

test-full: export DKPIPE_FULL = 1
test-full:
	.ci/python .ci/servers $(GO) test -timeout 3h ./...
	.ci/fuzz
	CGO_ENABLED=1 .ci/servers $(GO) test -race -timeout 3h ./...

fuzz:
	.ci/fuzz

SPARKS ?= 3.5.7 4.1.2 4.2.0

test-compat: export DKPIPE_REQUIRE = spark,hdfs
test-compat:
	for version in $(SPARKS); do \
		echo "Spark $$version"; \
		DKPIPE_SPARK=$$version .ci/servers sh -ec '$(GO) test -count 1 -timeout 30m ./sparkconn/...; \
			$(GO) test -count 1 -timeout 30m -run "Live|SlotsInSQL|Parameters|ClusterJob" ./cmd/dkpipe' || exit 1; \
	done

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

RESULTS = $(CURDIR)/trainers/testdata/results
FLEET = out/peers/bin/python $(PEERS)/fleet.py --ours out/peers/fleet --results $(RESULTS)

bench-trainers: bench-accuracy bench-speed bench-table

bench-accuracy:
	mkdir -p $(RESULTS)
	DKPIPE_RESULTS=$(RESULTS) $(GO) test ./trainers -count 1 -timeout 12h -v -run 'TestEveryTrainerLearnsFashion|TestSweepsOfWorkersAndWindows|TestWindowsOfTwentyWorkers|TestASlowWorkerCostsLittle'
	DKPIPE_FULL=1 $(GO) test ./cmd/dkpipe -count 1 -timeout 1h -v -run TestInt8CommitsLoseNothing

bench-speed: build out/peers/requirements.txt
	$(GO) build -o out/peers/fleet $(PEERS)/fleet.go
	$(FLEET) speed
	$(FLEET) target
	out/peers/bin/python $(PEERS)/launch.py --dkpipe bin/dkpipe --spark --results $(RESULTS)
	$(GO) test ./trainers -run '^$$' -bench 'ManyWorkers/.*/200-against-8' -benchtime 5x
	bin/dkpipe bench exchange

# Elephas needs other versions of everything, and Java.
bench-elephas: out/peers/requirements.txt out/elephas/elephas.txt
	$(GO) build -o out/peers/fleet $(PEERS)/fleet.go
	$(FLEET) speed --systems dkpipe:agn:10:2 --elephas out/elephas/bin/python --epochs 5

out/elephas/elephas.txt: $(PEERS)/elephas.txt
	python3 -m venv out/elephas
	out/elephas/bin/pip install --quiet --requirement $<
	cp $< $@

bench-table:
	$(GO) test ./trainers -count 1 -run TestTableOfTrainersIsMeasured -update

clean:
	rm -rf bin out examples/*/out
