package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/bench"
)

type benchDocs struct {
	Document string   `arg:"" optional:"" name:"document" default:"docs/performance.md" help:"Where the figures go: between lines <!-- bench:begin NAME --> and <!-- bench:end NAME -->."`
	Sections []string `placeholder:"NAME,…" help:"Only these sections, of table, scale, memory and soak."`
	Resume   bool     `help:"Leave the sections alone that have figures of this commit already."`
	Runs     int      `default:"3" help:"How many runs the table has."`
	Minutes  float64  `default:"10" help:"How long the soak is."`
	Plots    string   `default:"plots" help:"Where the plots go, beside the document."`
	Quick    bool     `help:"Small and short: to see that it works, not how fast."`
	benchPlace
}

// Help implements kong.HelpProvider.
func (benchDocs) Help() string {
	return `Takes the figures of docs/performance.md and writes them into it, section by section: what is done is written before the next one begins, so it can
be interrupted and gone on with by --resume. Nothing outside the markers is touched. All of it but the soak takes about eleven minutes; nothing else should
run meanwhile.

Examples:

    stockledger bench docs
    stockledger bench docs --resume
    stockledger bench docs --sections soak --minutes 10`
}

// docsSections are the sections in the order in which they are taken. The memory is a row of
// the table, too, and is taken once for both.
var docsSections = []string{"table", "memory", "scale", "soak"}

// Validate implements kong's hook of that name.
func (c *benchDocs) Validate() error {
	if c.Minutes <= 0 {
		return errors.New("--minutes must be more than nothing")
	}
	for _, name := range c.Sections {
		if !slices.Contains(docsSections, name) {
			return fmt.Errorf("there is no section %q; there are %s", name, strings.Join(docsSections, ", "))
		}
	}
	return nil
}

// Run takes the sections and writes them.
func (c *benchDocs) Run(ctx context.Context, s streams) error {
	return c.measure(ctx, s, func(b *bench.Bench) error {
		for _, name := range docsSections {
			if len(c.Sections) > 0 && !slices.Contains(c.Sections, name) {
				continue
			}
			if err := c.section(ctx, s, b, name); err != nil {
				return fmt.Errorf("section %s: %w", name, err)
			}
		}
		return nil
	})
}

// section takes the figures of a section, unless they are there, and writes them.
func (c *benchDocs) section(ctx context.Context, s streams, b *bench.Bench, name string) error {
	document, err := os.ReadFile(c.Document)
	if err != nil {
		return err
	}
	// A document without the markers is told so before anything is measured.
	if _, err := bench.Replace(string(document), name, ""); err != nil {
		return err
	}
	if c.Resume && b.Machine().TakenAt(bench.Block(string(document), name)) {
		fmt.Fprintf(s.out, "%s: there already\n", name)
		return nil
	}
	text, err := c.take(ctx, b, name)
	if err != nil {
		return err
	}
	if document, err = os.ReadFile(c.Document); err != nil { // it may have been edited meanwhile
		return err
	}
	written, err := bench.Replace(string(document), name, text)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Document, []byte(written), 0o644); err != nil { //nolint:gosec // G306: a document, for everybody
		return err
	}
	fmt.Fprintf(s.out, "%s: written to %s\n", name, c.Document)
	return nil
}

// take takes the figures of a section and returns what is written about them. A
// section with an error is not written.
func (c *benchDocs) take(ctx context.Context, b *bench.Bench, name string) (string, error) {
	table := bench.Whole()
	table.Runs = max(1, c.Runs)
	scale := bench.ScaleConfig{Callers: bench.DefaultCallers, Items: 10_000, Duration: 2 * time.Second}
	soak := bench.SoakConfig{Every: 5 * time.Second, LoadConfig: bench.LoadConfig{
		Load:  bench.Load{Callers: 64, Duration: time.Duration(c.Minutes * float64(time.Minute))},
		Items: 10_000, Mix: bench.AllAdjust, Transport: bench.Go,
	}}
	if c.Quick {
		table, scale.Callers, scale.Items, scale.Duration = bench.Quick(), []int{1, 4}, 10, 100*time.Millisecond
		soak.Duration, soak.Every, soak.Items = time.Second, 100*time.Millisecond, 10
	}
	plots := filepath.Join(filepath.Dir(c.Document), c.Plots)
	switch name {
	case "table":
		taken, err := b.TakeTable(ctx, table)
		return taken.Markdown(), err
	case "memory":
		taken, err := b.MemoryOnce(ctx, table.Memory)
		return taken.Markdown(b.Machine()), err
	case "scale":
		return c.takeScale(ctx, b, scale, plots)
	default:
		return c.takeSoak(ctx, b, soak, plots)
	}
}

func (c *benchDocs) takeScale(ctx context.Context, b *bench.Bench, config bench.ScaleConfig, plots string) (string, error) {
	taken, err := b.TakeScale(ctx, config)
	if err == nil {
		err = taken.Err()
	}
	if err != nil {
		return "", err
	}
	_, err = taken.Plot(plots)
	return taken.Markdown(c.Plots), err
}

// takeSoak is written also when something grows: then the document says so.
func (c *benchDocs) takeSoak(ctx context.Context, b *bench.Bench, config bench.SoakConfig, plots string) (string, error) {
	taken, err := b.Soak(ctx, config)
	if err == nil {
		err = taken.Check.Err()
	}
	if err != nil {
		return "", err
	}
	if taken.Errors > 0 {
		return "", fmt.Errorf("%d errors, such as: %s", taken.Errors, taken.Error)
	}
	if err := os.MkdirAll(plots, 0o750); err != nil {
		return "", err
	}
	return taken.Markdown(c.Plots), taken.Plot(filepath.Join(plots, "soak.svg"))
}
