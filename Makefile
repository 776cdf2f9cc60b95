# `make check` before every commit.

lint = go tool -modfile=tools/go.mod golangci-lint

.PHONY: check test lint compose fuzz million bench failover acceptance run

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

fuzz: ## a minute each
	go test -run='^$$' -fuzz=FuzzParseQuantity -fuzztime=60s ./events
	go test -run='^$$' -fuzz=FuzzDecode -fuzztime=60s ./events
	go test -run='^$$' -fuzz=FuzzDecode -fuzztime=60s ./commands

million: ## a ledger of a million events: how soon it answers, how quickly its read models are built
	go test -run='^$$' -bench=Million -benchtime=1x -timeout=1h .

bench: ## docs/performance.md says what the figures mean
	go test -run='^$$' -bench=. -benchtime=3s .

failover: ## 20 kills of the leading node, 20 of NATS servers, 20 pauses; half an hour. STOCKLEDGER_TEST_SEED=… again
	STOCKLEDGER_TEST_FAILOVER=20 go test -v -count=1 -timeout=2h -run='Failover|APausedLeader' ./cmd/stockledger

acceptance: ## the whole sales file on a cluster of NATS servers, and on EventStoreDB's double
	STOCKLEDGER_TEST_SALES=all go test -v -count=1 -timeout=30m -run='RealSales' ./cmd/stockledger

run:
	go run ./cmd/stockledger serve
