# `make check` before every commit.

lint = go tool -modfile=tools/go.mod golangci-lint

.PHONY: check test lint compose fuzz million bench chaos model simulate powercuts subscribers failover acceptance run

check: lint ## under a minute
	go vet ./...
	go test -short ./...

test: ## what CI runs
	go test -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc/...=-race=false -timeout 20m ./...

lint:
	$(lint) config verify
	$(lint) run ./...

compose: ## are docker-compose.yml and what it names as they should be; needs no Docker
	go -C tools run ./composecheck ../docker-compose.yml
	go -C tools run ./composecheck ../docker-compose.yml ../docs/compose/eventstoredb-cluster.yml

fuzz: ## every decoder, a minute each
	tools/fuzzall 60s

million: ## a ledger of a million events: how soon it answers, how quickly its read models are built
	go test -run='^$$' -bench=Million -benchtime=1x -timeout=1h .

bench: ## docs/performance.md anew: the table of what we aim at, beside a plain file, PostgreSQL and an echo; 25 minutes
	go build -buildvcs=true -o stockledger ./cmd/stockledger
	./stockledger bench docs

chaos: ## 500 kills under load, then kills at named points, every torn tail and 3,000 bit flips; half an hour
	go run ./cmd/stockledger chaos --rounds 500 --markdown
	go run ./cmd/stockledger chaos --points --rounds 90 --markdown
	STOCKLEDGER_TEST_CHAOS=1 go test -count=1 -timeout=1h ./internal/chaos ./cmd/stockledger -run='Torn|Turns|Chaos'

model: ## a million commands of all kinds from 8 callers beside a small model
	STOCKLEDGER_TEST_MODEL=1000000 go test -count=1 -timeout=30m -v -run='^TestEveryAnswerIsTheModels$$' ./commands

simulate: ## 100,000 histories of the engine on a store and a clock that are simulated
	STOCKLEDGER_TEST_SIMULATIONS=100000 go test -count=1 -timeout=60m -v -run='^TestSimulation$$' ./commands

powercuts: ## thousands of power cuts, failed syncs and full disks
	STOCKLEDGER_TEST_POWERCUTS=2000 go test -count=1 -timeout=2h -run='PowerCut|FailedSync|DiskFull' ./events/sqlitestore
	# A ledger that has stopped keeps some files open until its process ends.
	STOCKLEDGER_TEST_POWERCUTS=500 go test -count=1 -timeout=2h -run='PowerCut|NothingKnows|FailedSync|FullDisk' .

subscribers: ## ten thousand follow the feed, one of them stalled
	STOCKLEDGER_TEST_SUBSCRIBERS=10000 go test -v -count=1 -timeout=40m -run=ASubscriberThatStalls ./internal/natsapi

failover: ## 20 kills of the leading node, 20 of NATS servers, 20 pauses; half an hour. STOCKLEDGER_TEST_SEED=… again
	STOCKLEDGER_TEST_FAILOVER=20 go test -v -count=1 -timeout=2h -run='Failover|APausedLeader' ./cmd/stockledger

acceptance: ## the whole sales file on a cluster of NATS servers, and on EventStoreDB's double
	STOCKLEDGER_TEST_SALES=all go test -v -count=1 -timeout=30m -run='RealSales' ./cmd/stockledger

run:
	go run ./cmd/stockledger serve
