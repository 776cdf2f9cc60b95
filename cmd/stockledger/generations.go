package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

type generations struct {
	List listGenerations `cmd:"" default:"withargs" help:"List the generations of the read models."`
	Drop dropGeneration  `cmd:"" help:"Delete one that is not served."`
}

// Help implements kong.HelpProvider.
func (generations) Help() string {
	return `A read model can be built anew beside the one that is served: that is its next generation. One generation of each model is serving;
others are building, ready to be switched to, or kept from before the last switches.

Examples:

    stockledger generations
    stockledger generations drop inventory 2`
}

type listGenerations struct {
	JSON bool `help:"Answer in JSON."`
	onLedger
}

// Run lists generations.
func (c *listGenerations) Run(ctx context.Context, s streams) (err error) {
	op, err := c.operator(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	document, err := operate[json.RawMessage](ctx, op, "list-generations", nil)
	if err != nil {
		return err
	}
	return showGenerations(s.out, document, c.JSON)
}

// showGenerations prints an answer that has generations.
func showGenerations(w io.Writer, document json.RawMessage, asJSON bool) error {
	if asJSON {
		return printJSON(w, document)
	}
	var answer struct {
		Generations []row `json:"generations"`
	}
	if err := json.Unmarshal(document, &answer); err != nil {
		return fmt.Errorf("generations: %w", err)
	}
	printTable(w, shapes["generations"], answer.Generations)
	return nil
}

type dropGeneration struct {
	Model  string `arg:"" help:"The read model: inventory or movements."`
	Number int    `arg:"" name:"generation" help:"The generation; stockledger generations lists them."`
	JSON   bool   `help:"Answer in JSON."`
	onLedger
}

// Run drops a generation.
func (c *dropGeneration) Run(ctx context.Context, s streams) (err error) {
	op, err := c.operator(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	document, err := operate[json.RawMessage](ctx, op, "drop-generation", operations.One{Model: c.Model, Number: c.Number})
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintf(s.out, "generation %d of %s is deleted; there are\n", c.Number, c.Model)
	}
	return showGenerations(s.out, document, c.JSON)
}

// latest are the generations that were begun last, one of each model.
func latest(all []projections.Generation) []projections.Generation {
	var last []projections.Generation
	for _, g := range all {
		at := slices.IndexFunc(last, func(other projections.Generation) bool { return other.Model == g.Model })
		switch {
		case at < 0:
			last = append(last, g)
		case g.Number > last[at].Number:
			last[at] = g
		}
	}
	return last
}
