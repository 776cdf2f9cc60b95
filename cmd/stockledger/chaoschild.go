package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/diskfault"
)

// chaosServer is the program as it is, but that it ends with the process that started
// it, however that one ends: it writes nothing to us, and holds the pipe open.
type chaosServer struct {
	Args []string `arg:"" passthrough:""`
}

// Run runs the program with the arguments.
func (c *chaosServer) Run(ctx context.Context, config *settings, s streams) error {
	go func() {
		_, _ = io.Copy(io.Discard, s.in)
		os.Exit(exitFailed) // nobody is there to hear more
	}()
	if code := run(ctx, slices.Concat([]string{"stockledger"}, c.Args), config.getenv, s.in, s.out, s.err); code != exitDone {
		return errReported{code}
	}
	return nil
}

// chaosChild is the server of `stockledger chaos --points`: the ledger as it is, on
// a disk that kills the process at a certain operation. It is a subcommand of its own
// and takes nothing from the environment, so that nobody's ledger does this.
type chaosChild struct {
	Data       string `required:""`
	ReadyFile  string `required:""`
	NATSListen string `name:"nats-listen" required:""`

	Die    string
	File   string
	Number int64
	Early  bool
	Hold   uint64
}

// Run serves until it kills itself, or is killed.
func (c *chaosChild) Run(ctx context.Context, s streams) (err error) {
	fuse := &fuse{kind: c.Die, file: c.File, number: c.Number}
	fuse.burning.Store(c.Early)
	disk, err := diskfault.New("stockledger-chaos", fuse.next)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if err := os.MkdirAll(c.Data, 0o750); err != nil {
		return err
	}
	log, err := sqlitestore.OpenOn(disk.Name(), filepath.Join(c.Data, "log.db"))
	if err != nil {
		return err
	}
	store := &secretive{Store: log, last: math.MaxUint64}
	if c.Hold > 0 {
		head, err := log.Head(ctx)
		if err != nil {
			return errors.Join(err, log.Close())
		}
		store.last = head + c.Hold
	}
	h, err := openHost(ctx, hostConfig{
		dir: c.Data, store: store, prefix: "inventory", walk: true, listen: c.NATSListen, logger: newLogger(s.err, "text"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.announce(c.ReadyFile); err != nil {
		return err
	}
	fuse.burning.Store(true)
	select {
	case <-ctx.Done():
		return nil
	case <-h.ledger.Failed():
		return errStoreStopped
	}
}

// A fuse ends the process at one of many operations on a file.
type fuse struct {
	kind, file string
	number     int64
	burning    atomic.Bool // operations are counted
	seen       atomic.Int64
}

// next is the plan of the disk.
func (f *fuse) next(op diskfault.Op) error {
	if f.kind == "" || !f.burning.Load() || op.Kind.String() != f.kind || filepath.Base(op.Path) != f.file {
		return nil
	}
	if f.seen.Add(1) != f.number {
		return nil
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		return fmt.Errorf("it does not die: %w", err)
	}
	select {} // what was asked for does not happen any more
}

// A secretive store keeps events to itself from a position on: whoever follows the
// log, as the feed does, learns nothing of them.
type secretive struct {
	*sqlitestore.Store
	last uint64
}

// Subscribe implements [events.Store] up to the last position that is told.
func (s *secretive) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range s.Store.Subscribe(ctx, after) {
			for len(batch) > 0 && batch[len(batch)-1].Position > s.last {
				batch = batch[:len(batch)-1]
			}
			if err == nil && len(batch) == 0 {
				<-ctx.Done()
				err = ctx.Err()
			}
			if !yield(batch, err) || err != nil {
				return
			}
		}
	}
}
