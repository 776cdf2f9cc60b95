package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

type switchModels struct {
	Models []string `arg:"" optional:"" name:"model" help:"The read models to switch: inventory, movements; all of them when left out."`
	Back   bool     `help:"Back to the generation that was served before."`
	JSON   bool     `help:"Answer in JSON."`
	onLedger
}

// Help implements kong.HelpProvider.
func (switchModels) Help() string {
	return `Serves the generation that was rebuilt, from one query to the next: no answer is of both, and none is older than one before it. The generation
that was served is kept, and --back returns to it.

Examples:

    stockledger switch
    stockledger switch inventory
    stockledger switch --back`
}

// Run switches read models.
func (c *switchModels) Run(ctx context.Context, s streams, config *settings) (err error) {
	op, err := c.operator(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := c.settled(ctx, op, s); err != nil {
		return err
	}
	return c.turn(ctx, op, s, config)
}

// turning is how long a switch may take: what was served before catches up first.
const turning = 2 * time.Minute

func (c *switchModels) turn(ctx context.Context, op operator, s streams, config *settings) error {
	ctx, cancel := context.WithTimeout(ctx, max(turning, c.Timeout))
	defer cancel()
	document, err := operate[json.RawMessage](ctx, op, "switch-models", operations.Turn{Models: c.Models, Back: c.Back})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, document)
	}
	var now operations.Generations
	if err := json.Unmarshal(document, &now); err != nil {
		return fmt.Errorf("answer to switch-models: %w", err)
	}
	for _, g := range now.Generations {
		if g.State == projections.Serving {
			fmt.Fprintf(s.out, "%s: generation %d is served, at position %d\n", g.Model, g.Number, g.Position)
		}
	}
	if !c.Back {
		fmt.Fprintf(s.out, "\nback to what was served before:\n  %s\n",
			config.line(slices.Concat([]string{"switch", "--back"}, c.Models, c.place())...))
	}
	return nil
}
