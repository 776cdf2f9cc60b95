package audit

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// WalkerConfig says what to walk over, and how fast.
type WalkerConfig struct {
	Store  events.Store
	Models *projections.Models
	Logger *slog.Logger // hears of rows that are wrong and of rows that are right again; nil for nobody
	// Share is how much of one processor's time it may take, from 0 to 1; 0 is DefaultShare.
	Share float64
	// Every is how long a round takes at least, so that a small ledger is not
	// walked over all the time; 0 is DefaultEvery.
	Every time.Duration
	// Now is the clock; nil is time.Now. Wait waits that long or until ctx is done;
	// nil does.
	Now  func() time.Time
	Wait func(ctx context.Context, d time.Duration)
}

// Defaults of a [WalkerConfig].
const (
	DefaultShare = 0.08 // four hundredths of two processors
	DefaultEvery = 15 * time.Second
)

// A WalkState is how far a walker is and what it has found.
type WalkState struct {
	Round     uint64        `json:"round"`      // that it is on, from 1
	Position  uint64        `json:"position"`   // up to which it has come in this round
	Head      uint64        `json:"head"`       // of the log, when it last looked
	Rows      uint64        `json:"rows"`       // it has compared since it started
	Wrong     uint64        `json:"wrong"`      // rows that are wrong now, as far as it knows
	Since     time.Time     `json:"since"`      // when the first of them was found
	First     *Finding      `json:"first"`      // of them; nil while there is none
	Began     time.Time     `json:"began_at"`   // this round
	LastRound time.Duration `json:"last_round"` // how long the round before took; 0 in the first one
	Trouble   string        `json:"trouble"`    // why it could not look, "" while it can
}

// OK reports whether nothing is known to be wrong.
func (s WalkState) OK() bool { return s.Wrong == 0 }

// A Walker compares rows with the log for ever, a little at a time.
type Walker struct {
	cfg  WalkerConfig
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	state WalkState
}

// StartWalker starts a walker. It must be closed before the models and the store are.
func StartWalker(cfg WalkerConfig) *Walker {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	w := &Walker{cfg: cfg, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		<-ctx.Done()
	}()
	return w
}

// State is how far the walker is.
func (w *Walker) State() WalkState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Close stops the walker and waits until it has.
func (w *Walker) Close() {
	w.stop()
	<-w.done
}
