# `make check` before every commit.

lint = go tool -modfile=tools/go.mod golangci-lint

.PHONY: check test lint compose fuzz million bench chaos failover acceptance run

check: lint ## under a minute
	go vet ./...
	go test -short ./...

test: ## what CI runs
	go test -race -timeout 20m ./...

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

bench: ## the table of what we aim at, beside a plain file, PostgreSQL and an echo; docs/performance.md from it
	go run ./cmd/stockledger bench docs

chaos: ## 500 kills under load, some ten minutes; then kills at named points
	go run ./cmd/stockledger chaos --rounds 500
	go run ./cmd/stockledger chaos --points --rounds 90

failover: ## 20 kills of the leading node, 20 of NATS servers, 20 pauses; half an hour. STOCKLEDGER_TEST_SEED=… again
	STOCKLEDGER_TEST_FAILOVER=20 go test -v -count=1 -timeout=2h -run='Failover|APausedLeader' ./cmd/stockledger

acceptance: ## the whole sales file on a cluster of NATS servers, and on EventStoreDB's double
	STOCKLEDGER_TEST_SALES=all go test -v -count=1 -timeout=30m -run='RealSales' ./cmd/stockledger

run:
	go run ./cmd/stockledger serve
