package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

type status struct {
	JSON bool `help:"Answer in JSON."`
	reach
}

// Help implements kong.HelpProvider.
func (status) Help() string {
	return `Exit status: 0 when every read model runs; 1 when one has stopped, with the reason shown; 3 when no ledger answers.

Example:

    stockledger status --server nats://127.0.0.1:4222`
}

// A health is what the ledger says of itself.
type health struct {
	LogID   string `json:"log_id"`
	Head    uint64 `json:"head"` // position of the newest event
	DataDir string `json:"data_dir"`
	Version string `json:"version"`
	Models  []row  `json:"models"`
	Feed    row    `json:"feed"`
}

// Run shows the status.
func (c *status) Run(ctx context.Context, s streams) error {
	l, err := c.dial()
	if err != nil {
		return err
	}
	defer l.Close()
	document, err := ask[json.RawMessage](ctx, l, statusQuery, nil)
	if refusal, ok := errors.AsType[*fault.Error](err); ok && refusal.Code == "unknown_query" {
		return fmt.Errorf("the ledger at %s is of a version that does not tell its status", natsapi.Redacted(c.Server))
	}
	if err != nil {
		return err
	}
	var h health
	if err := json.Unmarshal(document, &h); err != nil {
		return fmt.Errorf("answer to %s: %w", statusQuery, err)
	}
	if c.JSON {
		err = printJSON(s.out, document)
	} else {
		c.show(s, h)
	}
	if err != nil {
		return err
	}
	return h.verdict()
}

func (c *status) show(s streams, h health) {
	fmt.Fprintf(s.out, "server    %s\n", natsapi.Redacted(c.Server))
	for _, line := range []struct{ name, value string }{{"data", h.DataDir}, {"version", h.Version}, {"log", h.LogID}} {
		if line.value != "" {
			fmt.Fprintf(s.out, "%-9s %s\n", line.name, line.value)
		}
	}
	fmt.Fprintf(s.out, "head      %d\n\n", h.Head)
	printTable(s.out, shapes["models"], h.parts())
}

// parts are what follows the log.
func (h health) parts() []row {
	if h.Feed == nil {
		return h.Models
	}
	return append(slices.Clip(h.Models), h.Feed)
}

// verdict is an error when one of them goes no further.
func (h health) verdict() error {
	var stopped []error
	for _, part := range h.parts() {
		if why := stoppedBy(part); why != "" {
			stopped = append(stopped, fmt.Errorf("%s has stopped: %s", part.text("name"), why))
		}
	}
	return mistakes("the ledger", stopped)
}
