package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/projections"
)

type status struct {
	JSON bool `help:"Answer in JSON."`
	reach
}

// Help implements kong.HelpProvider.
func (status) Help() string {
	return `Exit status: 0 when every read model runs and none is known to be wrong; 1 otherwise, with the reason shown; 3 when no ledger answers.

Example:

    stockledger status --server nats://127.0.0.1:4222`
}

// A health is what the ledger says of itself.
type health struct {
	LogID   string `json:"log_id"`
	Head    uint64 `json:"head"` // position of the newest event
	DataDir string `json:"data_dir"`
	Version string `json:"version"`
	Node    string `json:"node"`
	Role    string `json:"role"`
	Store   string `json:"store"` // its kind
	Models  []row  `json:"models"`
	Feed    row    `json:"feed"`

	Leader *leaderStatus `json:"leader"`

	Rebuilds []projections.Generation `json:"rebuilds"`
	Drift    *stockledger.Drift       `json:"drift"`
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
	for _, line := range []struct{ name, value string }{
		{"node", h.node()}, {"leader", h.leads()}, {"data", h.DataDir}, {"version", h.Version}, {"store", h.Store}, {"log", h.LogID},
	} {
		if line.value != "" {
			fmt.Fprintf(s.out, "%-9s %s\n", line.name, line.value)
		}
	}
	fmt.Fprintf(s.out, "head      %d\n\n", h.Head)
	printTable(s.out, shapes["models"], h.parts())
	for _, g := range h.Rebuilds {
		fmt.Fprintf(s.out, "\n%s\n", toldRebuild(g))
	}
	if h.Drift != nil && h.Drift.Trouble != "" {
		fmt.Fprintf(s.out, "\nthe rows cannot be compared with the log at the moment: %s\n", h.Drift.Trouble)
	}
}

// node is the node that answers, and its role; "" where it is the only one.
func (h health) node() string {
	if h.alone() {
		return ""
	}
	return fmt.Sprintf("%s, %s", h.Node, h.Role)
}

// leads is which node leads; "" where there is only one.
func (h health) leads() string {
	switch {
	case h.alone():
		return ""
	case h.Leader == nil:
		return "no node leads at this moment; commands wait until one does"
	}
	at := ""
	if h.Leader.HTTPURL != "" {
		at = " at " + h.Leader.HTTPURL
	}
	return fmt.Sprintf("%s%s, since %s at least, term %d", h.Leader.Node, at, h.Leader.Since.Format(time.RFC3339), h.Leader.Term)
}

// alone reports whether no nodes share the log, as in ledgers of earlier versions.
func (h health) alone() bool {
	return h.Node == "" || h.Leader != nil && h.Leader.Term == 0
}

// toldRebuild says how far a generation is.
func toldRebuild(g projections.Generation) string {
	text := fmt.Sprintf("generation %d of %s", g.Number, g.Model)
	switch pace := paceOf([]projections.Generation{g}); {
	case g.Stopped != "":
		return fmt.Sprintf("%s has stopped: %s", text, g.Stopped)
	case g.State == projections.Ready:
		return text + " is ready; stockledger diff shows what differs, stockledger switch serves it"
	case pace != "":
		return fmt.Sprintf("%s is being built: %d of %d events, %s", text, g.Position, g.Position+g.Behind, pace)
	default:
		return fmt.Sprintf("%s is being built: %d of %d events", text, g.Position, g.Position+g.Behind)
	}
}

// parts are what follows the log.
func (h health) parts() []row {
	if h.Feed == nil {
		return h.Models
	}
	return append(slices.Clip(h.Models), h.Feed)
}

// verdict is an error when one of them goes no further, or is wrong.
func (h health) verdict() error {
	var stopped []error
	for _, part := range h.parts() {
		if why := stoppedBy(part); why != "" {
			stopped = append(stopped, fmt.Errorf("%s has stopped: %s", part.text("name"), why))
		} else if why := part.text("waiting"); why != "" {
			stopped = append(stopped, fmt.Errorf("%s waits, and goes on by itself once it can: %s", part.text("name"), why))
		} else if why := part.text("stuck"); why != "" {
			stopped = append(stopped, fmt.Errorf("%s is stuck: %s", part.text("name"), why))
		}
	}
	if h.Drift != nil && !h.Drift.OK() {
		stopped = append(stopped, h.drifted())
	}
	return mistakes("the ledger", stopped)
}

// drifted says what the walk has found, and what to do.
func (h health) drifted() error {
	first := ""
	if h.Drift.First != nil {
		first = ", the first of them: " + h.Drift.First.Message
	}
	switch {
	case h.Drift.Damaged > 0:
		return fmt.Errorf("%s of the log damaged%s; stop the ledger, keep the directory as it is, and restore a backup beside it", counted(h.Drift.Damaged, "event"), first)
	case h.Drift.Wrong == 0:
		return errors.New("the walk over the rows cannot look; stockledger verify does")
	}
	return fmt.Errorf("%s%s; stockledger verify looks at all of them, stockledger rebuild builds them anew", wrongRows(*h.Drift), first)
}
