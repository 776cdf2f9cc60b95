package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/internal/bench"
	"github.com/stockledger/stockledger/internal/figures"
)

type benchSoak struct {
	Minutes   float64       `default:"10" help:"How long the load is."`
	Every     time.Duration `default:"5s" help:"How often the process is looked at."`
	Callers   int           `default:"64" help:"How many send one request after the other."`
	Items     int           `default:"10000" help:"How many items they draw from."`
	Mix       string        `default:"adjust=100" help:"How many of 100 requests are of each kind: adjust, reserve, release, fulfil, read."`
	Transport string        `default:"go" enum:"go,nats,http" help:"How they reach the ledger: go, nats or http."`
	Plot      string        `placeholder:"FILE.svg" help:"Draw the memory over time."`
	benchAnswer
}

// Help implements kong.HelpProvider.
func (benchSoak) Help() string {
	return `Full load for long, with a look at the process every few seconds: memory, goroutines, open files, the log and the rate.
` + bench.Rule + `. A minute takes about 2 GB of disk.

Exit status: 0 nothing grows; 1 something does, a request failed, or something acknowledged is not in the log once.

Example:

    stockledger bench soak --minutes 10 --plot soak.svg`
}

// Validate implements kong's hook of that name.
func (c *benchSoak) Validate() error {
	if _, err := bench.ParseMix(c.Mix); err != nil {
		return err
	}
	if c.Minutes <= 0 || c.Every <= 0 || c.Items < 1 || c.Callers < 1 || c.Callers > bench.MaxCallers {
		return fmt.Errorf("--callers must be from 1 to %d, --items at least 1, --minutes and --every more than nothing", bench.MaxCallers)
	}
	return nil
}

func (c *benchSoak) config() (bench.SoakConfig, error) {
	mix, err := bench.ParseMix(c.Mix)
	return bench.SoakConfig{Every: c.Every, LoadConfig: bench.LoadConfig{
		Load:  bench.Load{Callers: c.Callers, Duration: time.Duration(c.Minutes * float64(time.Minute))},
		Items: c.Items, Mix: mix, Transport: bench.Transport(c.Transport),
	}}, err
}

// Run puts a ledger under load.
func (c *benchSoak) Run(ctx context.Context, s streams) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	return c.measure(ctx, s, func(b *bench.Bench) error {
		soak, err := b.Soak(ctx, config)
		if err != nil {
			return err
		}
		if c.Plot != "" {
			if err := soak.Plot(c.Plot); err != nil {
				return err
			}
		}
		return c.show(s.out, soak, func(w io.Writer) { showSoak(w, soak) }, soak.Err())
	})
}

func showSoak(w io.Writer, soak bench.Soak) {
	rows := make([]row, len(soak.Samples))
	inMiB := func(n int64) string { return figures.Thousands(float64(n) / (1 << 20)) }
	for i, sample := range soak.Samples {
		rows[i] = textRow(map[string]string{
			"second": strconv.FormatFloat(sample.Second, 'f', 0, 64), "rate": figures.Thousands(sample.Rate), "p99": figures.Thousands(sample.P99),
			"resident": inMiB(sample.Resident), "heap": inMiB(sample.Heap), "goroutines": strconv.Itoa(sample.Goroutines),
			"files": strconv.Itoa(sample.Files), "log": inMiB(sample.Log), "behind": strconv.FormatUint(sample.Behind, 10),
		})
	}
	printTable(w, []column{
		num("SECOND", "second"), num("A SECOND", "rate"), num("P99 MS", "p99"), num("RESIDENT MIB", "resident"), num("LIVE HEAP MIB", "heap"),
		num("GOROUTINES", "goroutines"), num("OPEN FILES", "files"), num("LOG MIB", "log"), num("MODELS BEHIND", "behind"),
	}, rows)
	fmt.Fprintln(w)
	for _, t := range soak.Trends {
		verdict := "flat"
		if !t.Flat {
			verdict = "GROWS"
		}
		fmt.Fprintf(w, "%-5s  %s: %s %s in the second quarter, %s in the last, %s allowed\n",
			verdict, t.What, figures.Thousands(t.Second), t.Unit, figures.Thousands(t.Last), figures.Thousands(t.Allowed))
	}
	fmt.Fprintf(w, "%s\nchecked: %s acknowledged, %d lost, %d doubled, %d of %s wrong\n", bench.Rule,
		several(soak.Check.Acknowledged, "command"), soak.Check.Lost, soak.Check.Doubled, soak.Check.Wrong, several(soak.Check.Levels, "level"))
	tellMachine(w, soak.Machine)
}
