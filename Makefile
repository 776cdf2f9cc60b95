# `make check` before every commit.

lint = go tool -modfile=tools/go.mod golangci-lint

.PHONY: check test lint fuzz million bench run

check: lint ## under a minute
	go vet ./...
	go test -short ./...

test: ## what CI runs
	go test -race ./...

lint:
	$(lint) config verify
	$(lint) run ./...

fuzz: ## a minute each
	go test -run='^$$' -fuzz=FuzzParseQuantity -fuzztime=60s ./events
	go test -run='^$$' -fuzz=FuzzDecode -fuzztime=60s ./events
	go test -run='^$$' -fuzz=FuzzDecode -fuzztime=60s ./commands

million: ## a ledger of a million events: how soon it answers, how quickly its read models are built
	go test -run='^$$' -bench=Million -benchtime=1x -timeout=1h .

bench: ## docs/performance.md says what the figures mean
	go test -run='^$$' -bench=. -benchtime=3s .

run:
	go run ./cmd/stockledger serve
