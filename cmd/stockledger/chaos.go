package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/chaos"
	"github.com/stockledger/stockledger/internal/figures"
)

type chaosCommand struct {
	Rounds   int       `default:"20" help:"How often the server is killed."`
	Dir      string    `placeholder:"DIR" help:"Where the ledger is made, and what the callers know; a directory that is empty or new. It is kept. A temporary one when left out, which is kept only if something is wrong."`
	Callers  int       `default:"32" help:"How many send commands at once."`
	Every    durations `default:"200ms..3s" placeholder:"D..D" help:"How long a server lives at least and at most, once it serves."`
	Points   bool      `help:"Kill at named moments in turns, such as between a write and its fsync, and not at random."`
	Seed     uint64    `placeholder:"N" help:"Draw the same commands and moments again; a new seed when left out."`
	JSON     bool      `help:"Answer in JSON."`
	Markdown bool      `help:"Answer as a table for a document, with the machine and the date."`
}

// Help implements kong.HelpProvider.
func (chaosCommand) Help() string {
	return `Starts a ledger in a process of its own, sends it commands of all kinds from here, kills it with SIGKILL under the load, and starts it again.
The callers write down what they sent and what they were told. Then the log is read and compared with that, after every kill: each
acknowledged command is there once, at the position and with the answer that was told, also when it is sent again after a restart; nothing is refused
that ought not to be; each other one is there whole or not at all. At the end the hash chains, the read models, the sums of all levels and the feed are checked, too.

It needs nothing that runs, and touches no other ledger.

Exit status: 0 nothing is lost, doubled or wrong; 1 something is, or it could not be tried.

Examples:

    stockledger chaos
    stockledger chaos --rounds 500 --markdown
    stockledger chaos --points --rounds 90`
}

// durations are two of them, FROM..TO.
type durations struct{ from, to time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *durations) UnmarshalText(text []byte) (err error) {
	from, to, two := strings.Cut(string(text), "..")
	if !two {
		to = from
	}
	if d.from, err = time.ParseDuration(from); err != nil {
		return err
	}
	if d.to, err = time.ParseDuration(to); err != nil {
		return err
	}
	if d.from <= 0 || d.to < d.from {
		return errors.New("write the shorter one first, such as 200ms..3s; both above 0")
	}
	return nil
}

// check says what is wrong with the flags.
func (c *chaosCommand) check() error {
	const most = 1000 // of callers: each of them holds a command
	switch {
	case c.Rounds < 1:
		return errors.New("--rounds must be at least 1")
	case c.Callers < 1 || c.Callers > most:
		return fmt.Errorf("--callers must be from 1 to %d", most)
	case c.JSON && c.Markdown:
		return errors.New("--json and --markdown are two answers; give one of them")
	}
	return nil
}

// Run kills servers, and is an error when that does harm.
func (c *chaosCommand) Run(ctx context.Context, s streams) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	dir, remove, err := c.place()
	if err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() //nolint:gosec // G404: it is printed
	}
	fmt.Fprintf(s.err, "seed %d, in %s\n", c.Seed, dir)
	bar := newProgress(s.err)
	bar.unit = "kills"
	bar.begin("chaos", c.Rounds)
	began := time.Now()
	report, err := chaos.Run(ctx, chaos.Config{
		Program: program, Dir: dir, Rounds: c.Rounds, Callers: c.Callers, Seed: c.Seed,
		Least: c.Every.from, Most: c.Every.to, Points: c.Points, Now: time.Now,
		Progress: func(now chaos.Report) {
			bar.beside(figures.Thousands(now.Acknowledged) + " acknowledged")
			bar.add(1)
		},
	})
	bar.end()
	if ctx.Err() != nil {
		fmt.Fprintln(s.err, "stockledger: interrupted after", figures.Thousands(report.Kills), "kills")
		return errors.Join(errReported{exitFailed}, remove())
	}
	if err != nil {
		return errors.New(err.Error() + "\nwhat was tried is in " + dir) // a refusal would be told without the rest
	}
	if err := c.tell(s.out, report, began); err != nil {
		return err
	}
	if !report.OK() {
		fmt.Fprintf(s.err, "stockledger: the ledger, the journal of the callers and what the servers wrote are in %s\n", dir)
		return errReported{exitFailed}
	}
	return remove()
}

// place is where it takes place.
func (c *chaosCommand) place() (dir string, remove func() error, err error) {
	if c.Dir != "" {
		dir, err = filepath.Abs(c.Dir)
		return dir, func() error { return nil }, err
	}
	dir, err = os.MkdirTemp("", "stockledger-chaos-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

func (c *chaosCommand) tell(w io.Writer, report chaos.Report, began time.Time) error {
	if c.JSON {
		document, err := json.Marshal(struct {
			chaos.Report
			OK       bool   `json:"ok"`
			Sentence string `json:"sentence"`
		}{report, report.OK(), report.Sentence()})
		if err != nil {
			return err
		}
		return printJSON(w, document)
	}
	lines := chaosLines(report)
	if c.Markdown {
		fmt.Fprintf(w, "%s, %d CPUs, %s, version %s; `stockledger chaos%s`, seed %d:\n\n| | |\n|---|---|\n",
			began.UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), programVersion(), c.line(), report.Seed)
		for _, l := range lines {
			fmt.Fprintf(w, "| %s | %s |\n", l[0], l[1])
		}
	} else {
		width := 0
		for _, l := range lines {
			width = max(width, len(l[0]))
		}
		for _, l := range lines {
			fmt.Fprintf(w, "%-*s  %s\n", width, l[0], l[1])
		}
	}
	fmt.Fprintln(w)
	for _, f := range report.Findings {
		fmt.Fprintf(w, "%s: %s\n", f.Kind, f.Message)
	}
	_, err := fmt.Fprintln(w, report.Sentence())
	return err
}

// line are the flags that matter, for a document.
func (c *chaosCommand) line() string {
	line := fmt.Sprintf(" --rounds %d --callers %d --every %s..%s", c.Rounds, c.Callers, c.Every.from, c.Every.to)
	if c.Points {
		line += " --points"
	}
	return line
}

// chaosLines are the figures of a report, each with its name.
func chaosLines(r chaos.Report) [][2]string {
	g := figures.Thousands[uint64]
	lines := [][2]string{{"kills", figures.Thousands(r.Kills)}}
	for _, at := range slices.Concat([]string{"at random"}, chaos.PointNames()) {
		if n := r.Points[at]; n > 0 {
			lines = append(lines, [2]string{"… " + at, fmt.Sprint(n)})
		}
	}
	if r.Early > 0 {
		lines = append(lines, [2]string{"… while it started", fmt.Sprint(r.Early)})
	}
	return append(lines, [][2]string{
		{"commands sent, by " + fmt.Sprint(r.Callers) + " callers", g(r.Sent)},
		{"acknowledged: each is there once, where it was said to be", g(r.Acknowledged)},
		{"refused: none is there", g(r.Refused)},
		{"given up: there whole, or not at all", fmt.Sprintf("%s, %s there", g(r.GivenUp), g(r.GivenUpThere))},
		{"sent again with the same key, most of them after a kill", g(r.Resent)},
		{"answered from the log: carried out before", g(r.Replayed)},
		{"events in the log, and in the feed", g(r.Events) + ", " + g(r.Feed)},
		{"lost", g(r.Lost)},
		{"doubled", g(r.Doubled)},
		{"from the start of a server to the next acknowledgment", fmt.Sprintf("median %.2f s, worst %.2f s, of %d",
			r.RestartMedian.Seconds(), r.RestartWorst.Seconds(), r.Restarts)},
		{"took", r.Took.Round(time.Second).String()},
	}...)
}
