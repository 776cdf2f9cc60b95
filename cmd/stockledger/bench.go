package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/internal/bench"
	"github.com/stockledger/stockledger/internal/figures"
)

type benchCommand struct {
	Load   benchLoad   `cmd:"" default:"withargs" help:"Put a ledger under load, beside what one would use instead."`
	Table  benchTable  `cmd:"" help:"Measure everything that is aimed at, and say what is reached."`
	Scale  benchScale  `cmd:"" help:"Throughput and latency over the number of callers."`
	Memory benchMemory `cmd:"" help:"How much memory a ledger of many items takes."`
	Soak   benchSoak   `cmd:"" help:"Full load for long: does anything grow?"`
	Docs   benchDocs   `cmd:"" help:"Take all figures of a document anew, and write them into it."`
}

// AfterApply implements kong's hook of that name: ledgers are measured as serve runs them.
func (benchCommand) AfterApply() error { //nolint:unparam // the hook's signature
	paceGarbage()
	return nil
}

// Help implements kong.HelpProvider.
func (benchCommand) Help() string {
	return `Measures a ledger of its own, in a temporary directory that is removed, and in the same run what one would use instead: a plain file that is
synced once for each group, a NATS service that only echoes, and PostgreSQL, if there is one. Figures depend on the machine; ratios are what to look at.
Nothing of yours is read or written. Without more words it is one load, with the flags of stockledger bench load --help.

Exit status: 0 measured; 1 a request failed, something acknowledged is not in the log once, or something grows.

Examples:

    stockledger bench
    stockledger bench --hot --callers 16
    stockledger bench --transport nats --mix adjust=50,reserve=20,release=10,fulfil=10,read=10
    stockledger bench table
    stockledger bench soak --minutes 10`
}

// benchPlace is where, and beside what, figures are taken.
type benchPlace struct {
	Dir      string `placeholder:"DIR" help:"Where the temporary directory is made; the disk it is on is what is measured."`
	Postgres string `placeholder:"URL" help:"A PostgreSQL to compare with, in which the schema stockledger_bench is made and dropped; off is none. When left out a private one is started, if its binaries are found."`
	Seed     uint64 `placeholder:"N" help:"What items are drawn with; one is drawn when left out."`
}

// benchAnswer is benchPlace, and how figures are shown.
type benchAnswer struct {
	benchPlace
	JSON bool `help:"Answer in JSON."`
}

// measure has a bench do something in a temporary directory, and removes it.
func (c *benchPlace) measure(ctx context.Context, s streams, do func(*bench.Bench) error) (err error) {
	dir, err := os.MkdirTemp(c.Dir, "stockledger-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	told := newProgress(s.err)
	told.unit = ""
	defer told.end()
	config := bench.Config{
		Dir: dir, Seed: c.Seed, Now: time.Now, Postgres: c.Postgres, NoPostgres: c.Postgres == "off",
		Progress: told.at, Version: programVersion(),
	}
	if config.Seed == 0 {
		config.Seed = uint64(rand.Uint32()) //nolint:gosec // G404: nobody has to be unable to guess it
	}
	config.Memory = func(ctx context.Context, of bench.MemoryConfig) (bench.Memory, error) {
		told.end()
		return memoryOfChild(ctx, s, dir, config.Seed, of)
	}
	b, err := bench.Open(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	err = do(b)
	if ctx.Err() != nil {
		told.end()
		fmt.Fprintln(s.err, "stockledger: interrupted; what was written is removed")
		return errReported{exitFailed}
	}
	return err
}

// show writes a document as JSON, or has it shown, and then says what is wrong.
func (c *benchAnswer) show(w io.Writer, document any, show func(io.Writer), wrong error) error {
	if !c.JSON {
		show(w)
		return wrong
	}
	text, err := json.Marshal(document)
	if err == nil {
		err = printJSON(w, text)
	}
	return errors.Join(err, wrong)
}

// tellMachine says where figures are from.
func tellMachine(w io.Writer, m bench.Machine) {
	fmt.Fprintf(w, "\n%s\n", m)
	if m.Filesystem == "tmpfs" {
		fmt.Fprintln(w, "this file system is memory: nothing here was durable; --dir DIR measures a disk")
	}
}

func tellLeftOut(w io.Writer, why map[string]string) {
	for what, why := range why {
		fmt.Fprintf(w, "left out: %s: %s\n", what, why)
	}
}

type benchLoad struct {
	Callers   int           `default:"64" help:"How many send one request after the other."`
	Items     int           `default:"10000" help:"How many items they draw from."`
	Hot       bool          `help:"One item for all, which is --items 1."`
	Mix       string        `default:"adjust=100" help:"How many of 100 requests are of each kind: adjust, reserve, release, fulfil, read. Who has nothing to release or to fulfil reserves. Beside a mix with reads stands nothing that only writes."`
	Transport string        `default:"go" enum:"go,nats,http" help:"How they reach the ledger: go, nats or http, the server being in the same process."`
	Feed      bool          `help:"Publish the feed meanwhile, over NATS."`
	Duration  time.Duration `default:"5s" help:"How long each of them is measured, after a warm-up."`
	benchAnswer
}

// Help implements kong.HelpProvider.
func (benchLoad) Help() string {
	return `One load on a ledger, and the same beside it on what one would use instead. Afterwards every command that was acknowledged is looked for in the
log, and what was acknowledged is compared with what is in stock.

Examples:

    stockledger bench --duration 10s
    stockledger bench --hot --transport http --json`
}

// Validate implements kong's hook of that name.
func (c *benchLoad) Validate() error {
	if _, err := bench.ParseMix(c.Mix); err != nil {
		return err
	}
	if c.Callers < 1 || c.Callers > bench.MaxCallers || c.Items < 1 || c.Duration <= 0 {
		return fmt.Errorf("--callers must be from 1 to %d, --items at least 1, and --duration more than nothing", bench.MaxCallers)
	}
	if c.Feed && c.Transport != string(bench.NATS) {
		return errors.New("--feed needs --transport nats")
	}
	return nil
}

func (c *benchLoad) config() (bench.LoadConfig, error) {
	mix, err := bench.ParseMix(c.Mix)
	config := bench.LoadConfig{
		Load: bench.Load{Callers: c.Callers, Duration: c.Duration}, Items: c.Items, Mix: mix, Transport: bench.Transport(c.Transport), Feed: c.Feed,
	}
	if c.Hot {
		config.Items = 1
	}
	return config, err
}

// Run takes the figures.
func (c *benchLoad) Run(ctx context.Context, s streams) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	return c.measure(ctx, s, func(b *bench.Bench) error {
		report, err := b.Load(ctx, config)
		if err != nil {
			return err
		}
		return c.show(s.out, report, func(w io.Writer) { showLoad(w, report) }, report.Err())
	})
}

// showLoad prints the ratios, then the figures, then whether they can be believed.
func showLoad(w io.Writer, r bench.Report) {
	for _, ratio := range r.Ratios {
		fmt.Fprintf(w, "%8s × %s\n", figures.Thousands(ratio.Ratio), ratio.What)
	}
	fmt.Fprintln(w)
	rows := []row{figuresRow(r.Ledger)}
	for _, f := range r.Beside {
		rows = append(rows, figuresRow(f))
	}
	printTable(w, figureColumns, rows)
	if len(r.Ledger.Kinds) > 0 {
		fmt.Fprintln(w)
		var kinds []row
		for _, name := range sortedKeys(r.Ledger.Kinds) {
			kinds = append(kinds, figuresRow(r.Ledger.Kinds[name]))
		}
		printTable(w, kindColumns, kinds)
	}
	fmt.Fprintf(w, "\nchecked: %s acknowledged, %d lost, %d doubled; %d of %s wrong\n",
		several(r.Check.Acknowledged, "command"), r.Check.Lost, r.Check.Doubled, r.Check.Wrong, several(r.Check.Levels, "level"))
	tellLeftOut(w, r.LeftOut)
	tellMachine(w, r.Machine)
}

func sortedKeys[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

var (
	figureColumns = []column{
		col("WHAT", "what"), num("A SECOND", "rate"), num("P50 MS", "p50"), num("P95 MS", "p95"), num("P99 MS", "p99"), num("MAX MS", "max"),
		num("GROUP", "group"), num("BYTES", "bytes"), num("PROCESSOR US", "cpu"), col("DURABLE", "durable"), num("ERRORS", "errors"),
	}
	kindColumns = []column{
		col("KIND", "what"), num("A SECOND", "rate"), num("P50 MS", "p50"), num("P95 MS", "p95"), num("P99 MS", "p99"), num("MAX MS", "max"),
	}
)

// figuresRow is a row of figures, written for people.
func figuresRow(f bench.Figures) row {
	durable := "no"
	if f.Durable {
		durable = "yes"
	}
	cells := map[string]string{
		"what": f.What, "rate": figures.Thousands(f.Rate), "p50": figures.Thousands(f.P50), "p95": figures.Thousands(f.P95), "p99": figures.Thousands(f.P99),
		"max": figures.Thousands(f.Max), "durable": durable, "errors": strconv.Itoa(f.Errors),
	}
	if f.Group > 0 {
		cells["group"] = figures.Thousands(f.Group)
	}
	if f.CPU > 0 {
		cells["cpu"] = figures.Thousands(f.CPU)
	}
	if f.Bytes > 0 {
		cells["bytes"] = figures.Thousands(f.Bytes)
	}
	return textRow(cells)
}

// textRow is a row of texts.
func textRow(cells map[string]string) row {
	r := make(row, len(cells))
	for name, text := range cells {
		r[name], _ = json.Marshal(text)
	}
	return r
}
