package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/internal/bench"
	"github.com/stockledger/stockledger/internal/figures"
)

type benchMemory struct {
	Items   int           `default:"1000000" help:"How many items."`
	Levels  int           `default:"3" help:"How many levels each of them has."`
	Callers int           `default:"64" help:"How many adjust levels at random afterwards."`
	Adjust  time.Duration `default:"20s" help:"For how long they do."`
	benchAnswer
}

// Help implements kong.HelpProvider.
func (benchMemory) Help() string {
	return `Fills a ledger in this process, adjusts its levels at random, and says how much memory that took at most and in the end. A million items take some
minutes and 4 GB of disk.

Example:

    stockledger bench memory --items 100000`
}

// Validate implements kong's hook of that name.
func (c *benchMemory) Validate() error {
	if c.Items < 1 || c.Levels < 1 || c.Callers < 1 || c.Callers > bench.MaxCallers || c.Adjust <= 0 {
		return fmt.Errorf("--items and --levels must be at least 1, --callers from 1 to %d, and --adjust more than nothing", bench.MaxCallers)
	}
	return nil
}

// Run takes the memory of this process.
func (c *benchMemory) Run(ctx context.Context, s streams) error {
	return c.measure(ctx, s, func(b *bench.Bench) error {
		m, err := b.TakeMemory(ctx, bench.MemoryConfig{Items: c.Items, Levels: c.Levels, Callers: c.Callers, Adjust: c.Adjust})
		if err != nil {
			return err
		}
		return c.show(s.out, m, func(w io.Writer) { showMemory(w, m, b.Machine()) }, nil)
	})
}

func showMemory(w io.Writer, m bench.Memory, machine bench.Machine) {
	inMiB := func(n int64) string { return figures.Thousands(float64(n)/(1<<20)) + " MiB" }
	fmt.Fprintf(w, "at most        %s; %s until everything was there\n", inMiB(m.Peak), inMiB(m.PeakLoading))
	fmt.Fprintf(w, "at the end     %s, of which %s are alive\n", inMiB(m.After), inMiB(m.Heap))
	fmt.Fprintf(w, "what is there  %d items with %d levels each, %d events; %d streams in the cache\n", m.Config.Items, m.Config.Levels, m.Events, m.Cached)
	fmt.Fprintf(w, "on disk        log %s, read models %s\n", inMiB(m.Log), inMiB(m.Models))
	fmt.Fprintf(w, "what was done  loaded in %s s, then %d adjustments\n", figures.Thousands(m.Loaded), m.Adjusted)
	tellMachine(w, machine)
}

// childEnds is how long a process of ours may take to clean up when it is to end.
const childEnds = 20 * time.Second

// memoryOfChild has this program take the memory of a ledger in another process, which
// has nothing else in its memory.
func memoryOfChild(ctx context.Context, s streams, dir string, seed uint64, of bench.MemoryConfig) (m bench.Memory, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	var answer bytes.Buffer
	child := exec.CommandContext(ctx, self, "bench", "memory", "--json", "--dir", dir, "--seed", strconv.FormatUint(seed, 10), //nolint:gosec // G204: this program
		"--items", strconv.Itoa(of.Items), "--levels", strconv.Itoa(of.Levels), "--callers", strconv.Itoa(of.Callers), "--adjust", of.Adjust.String())
	child.Args[0] = os.Args[0]
	child.Stdout, child.Stderr = &answer, s.err
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = childEnds
	if err := child.Run(); err != nil {
		return m, fmt.Errorf("bench memory: %w", err)
	}
	return m, json.Unmarshal(answer.Bytes(), &m)
}
