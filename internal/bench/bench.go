// Package bench measures a ledger beside what somebody would use instead, on the
// same machine, in the same run and in a closed loop: each caller sends its next
// request when it has the answer to the last. Figures differ from machine to machine
// and from hour to hour; what stands beside them does so by the same measure, so the
// ratios are what to look at.
//
// A load checks itself. Every command that was acknowledged must be in the log once,
// and the read models must end at what was acknowledged; otherwise its figures are of
// a ledger that does not work.
//
// Everything is written below one temporary directory, which is removed.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Config is what measurements need. Dir and Now must be set.
type Config struct {
	// Dir is where everything is written; it must be there, and stays. The disk it is
	// on is what is measured.
	Dir string
	// Seed is what items are drawn with.
	Seed uint64
	// Now is the clock.
	Now func() time.Time
	// Postgres is a connection string of a PostgreSQL to compare with, in which the
	// schema stockledger_bench is made and dropped. "" is a private one, made of
	// the binaries that are found.
	Postgres string
	// NoPostgres leaves PostgreSQL out.
	NoPostgres bool
	// Progress hears of a piece of work and how many of its steps are done; nil is
	// nobody. It is called from one goroutine at a time.
	Progress func(what string, done, total uint64)
	// Memory takes the memory of a ledger in a process of its own, which then has
	// nothing else in its memory; nil is this process.
	Memory func(ctx context.Context, config MemoryConfig) (Memory, error)
	// Version is that of the program.
	Version string
}

// A Bench takes measurements, one after the other: its methods may not be called
// side by side.
type Bench struct {
	Config
	dirs     int
	machine  Machine
	postgres *postgres         // once it was asked for
	leftOut  map[string]string // what is not measured, and why
	memory   *Memory           // once it was taken
}

// Open looks at the machine. The Bench must be closed.
func Open(config Config) (*Bench, error) {
	if config.Progress == nil {
		config.Progress = func(string, uint64, uint64) {}
	}
	b := &Bench{Config: config, leftOut: map[string]string{}}
	if config.NoPostgres {
		b.leftOut["PostgreSQL"] = "it was not wanted"
	}
	var err error
	if b.Dir, err = filepath.Abs(config.Dir); err != nil { // for PostgreSQL, which has another working directory
		return nil, err
	}
	b.machine, err = look(config)
	return b, err
}

// Close ends the PostgreSQL that was started, and waits for its end.
func (b *Bench) Close() error {
	if b.postgres == nil {
		return nil
	}
	return b.postgres.close()
}

// Machine is what figures were taken on.
func (b *Bench) Machine() Machine { return b.machine }

// LeftOut is what could not be measured, with the reason.
func (b *Bench) LeftOut() map[string]string { return b.leftOut }

// fresh makes a directory of that name, and says how to remove it.
func (b *Bench) fresh(name string) (dir string, remove func(), err error) {
	b.dirs++
	dir = filepath.Join(b.Dir, name+"-"+strconv.Itoa(b.dirs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("directory to measure in: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// quiet is for ledgers that are measured: what they would say is checked instead.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// random is what a caller draws with.
func (b *Bench) random(caller uint64) *rand.Rand {
	return rand.New(rand.NewPCG(b.Seed, caller)) //nolint:gosec // G404: drawn with a seed on purpose
}
