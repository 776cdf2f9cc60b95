package audit

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
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

	kept int    // rows to keep in books; 0 is mostKept
	gap  uint64 // events to bring them up to date by; 0 is mostGap
}

// Defaults of a [WalkerConfig].
const (
	DefaultShare = 0.06 // three hundredths of two processors
	DefaultEvery = 15 * time.Second
)

// Bounds of a walker.
const (
	// work is about how long it works before it rests. A snapshot is held no longer.
	work = 40 * time.Millisecond
	// leastEvents and mostEvents are how many events it looks at between two rests.
	leastEvents, mostEvents = 256, 4096
	// glance is how often it looks between two rounds whether others are served.
	glance = 2 * time.Second
	// mostRevisited is how many events it looks at again at once after a switch.
	mostRevisited = 500
	// longestRest is what it waits for at most, after it could not look or worked long.
	longestRest = 5 * time.Second
	// mostWrong is how many wrong rows it remembers. There may be more.
	mostWrong = 10_000
	// mostDescribed is how many of those that a look finds are told apart.
	mostDescribed = 20
)

// A WalkState is how far a walker is and what it has found.
type WalkState struct {
	Round     uint64        `json:"round"`      // that it is on, from 1
	Position  uint64        `json:"position"`   // up to which it has come in this round
	Head      uint64        `json:"head"`       // up to which it goes in this round
	Rows      uint64        `json:"rows"`       // it has compared since it started
	Wrong     uint64        `json:"wrong"`      // rows and events that are wrong now, as far as it knows; at most 10,000 of each are counted
	Damaged   uint64        `json:"damaged"`    // of them, events of the log
	Since     time.Time     `json:"since"`      // when the first of them was found
	First     *Finding      `json:"first"`      // of them, that with the first bad position, an event before any row; nil while there is none
	Began     time.Time     `json:"began_at"`   // this round
	Rounds    uint64        `json:"rounds"`     // that went over all rows; one that could not look did not
	LastRound time.Duration `json:"last_round"` // how long the last of them took, in nanoseconds; 0 while there is none
	Trouble   string        `json:"trouble"`    // why it could not look, "" once it has come by there again and could
	Blind     bool          `json:"blind"`      // it could not look for a minute or more, in two rounds at least
}

// OK reports whether nothing is known to be wrong, and it can look.
func (s WalkState) OK() bool { return s.Wrong == 0 && !s.Blind }

// A Walker compares rows with the log for ever, a little at a time. It goes from
// the first event to the last, and looks at all rows that each of them made. It
// reads the streams of those rows up to the position of a snapshot, and no others,
// so that a busy ledger costs it no more than a quiet one.
//
// A row is wrong when it is so twice, the second time by books that were made
// anew, at a later position. It is right again when a later round finds it so.
//
// It also checks each event that it reads: that it is what was recorded, and follows
// the one before it in its stream. A damaged event is an alarm of its own, and rows
// that depend on it are not blamed as long as there is one.
//
// It leaves to Verify: the rest of what must be so in a log; when levels ended, and the sums of their
// backdated movements; those movements of a level that should have none, or has
// more than 10,000; and links of a location that there is not.
type Walker struct {
	cfg  WalkerConfig
	stop context.CancelFunc
	done chan struct{}

	seeds   seeds
	layouts map[*sheet]*layout
	sites   *sites // as of the position of the round
	kept    *kept
	worked  time.Time // since when it has not rested

	quickest time.Duration // that looking at an event took
	links    map[key]link  // the last events of streams, in this round

	served map[string]int // the generations of the models

	blindFrom time.Time // when it could not look for the first time; zero while it can
	blindTo   uint64    // the position beyond which it must come to be able to look again

	mu      sync.Mutex
	state   WalkState
	wrong   map[suspect]Finding
	damaged map[uint64]Finding // by position
}

// StartWalker starts a walker. It must be closed before the models and the store are.
func StartWalker(cfg WalkerConfig) *Walker {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	cfg.Share = min(1, cmp.Or(cfg.Share, DefaultShare))
	cfg.Every = cmp.Or(cfg.Every, DefaultEvery)
	cfg.kept, cfg.gap = cmp.Or(cfg.kept, mostKept), cmp.Or(cfg.gap, mostGap)
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the one place where a walker's clock comes from
	}
	if cfg.Wait == nil {
		cfg.Wait = wait
	}
	ctx, stop := context.WithCancel(context.Background())
	s := newSeeds()
	w := &Walker{
		cfg: cfg, stop: stop, done: make(chan struct{}), seeds: s, kept: newKept(s),
		links: make(map[key]link), served: make(map[string]int), wrong: make(map[suspect]Finding), damaged: make(map[uint64]Finding),
	}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	return w
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
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

func (w *Walker) update(do func(*WalkState)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do(&w.state)
}

// run walks round after round until ctx is done.
func (w *Walker) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := w.cfg.Now()
		w.update(func(s *WalkState) { s.Round, s.Began, s.Position = s.Round+1, began, 0 })
		whole := w.round(ctx)
		took := w.cfg.Now().Sub(began)
		if whole {
			w.update(func(s *WalkState) { s.Rounds, s.LastRound = s.Rounds+1, took })
		}
		for rest := w.cfg.Every - took; rest > 0 && ctx.Err() == nil; rest -= glance {
			w.cfg.Wait(ctx, min(rest, glance))
			w.revisit(ctx)
		}
	}
}

// round walks from the first event to the last one there is now, and reports whether
// it came to the end of it and could look everywhere.
func (w *Walker) round(ctx context.Context) bool {
	end := w.cfg.Models.Position()
	w.update(func(s *WalkState) { s.Head = end })
	w.sites = newSites()
	w.kept.restart()
	clear(w.links)
	size := uint64(leastEvents)
	for at := uint64(0); at < end; {
		w.revisit(ctx)
		w.worked = w.cfg.Now()
		to := min(at+size, end)
		err := w.step(ctx, at+1, to)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			w.trouble(err, to)
			return false
		}
		w.sees(to)
		switch took := w.rest(ctx, to-at); {
		case took > 2*work:
			size = max(leastEvents, size/2)
		case took < work/2:
			size = min(mostEvents, 2*size)
		}
		at = to
	}
	err := w.beyond(ctx, end)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		w.trouble(err, math.MaxUint64)
	} else {
		w.sees(math.MaxUint64)
	}
	w.rest(ctx, 0)
	return err == nil && ctx.Err() == nil
}

// revisit looks at wrong rows again when another generation of their model is served
// than before, so that the alarm ends soon after a switch. It does without those for
// which it takes a whole round; what it cannot see, the round sees.
func (w *Walker) revisit(ctx context.Context) {
	status, err := w.cfg.Models.Status(ctx)
	if err != nil {
		return
	}
	changed := make(map[string]bool)
	for _, m := range status {
		changed[m.Name] = m.Generation != w.served[m.Name]
		w.served[m.Name] = m.Generation
	}
	homes := make(map[uint64]bool)
	for s := range w.wrong {
		if changed[s.sheet.model] && !s.sheet.ofPlaces() && 0 < s.home && s.home <= w.cfg.Models.Position() && len(homes) < mostRevisited {
			homes[s.home] = true
		}
	}
	for _, home := range slices.Sorted(maps.Keys(homes)) {
		w.worked = w.cfg.Now()
		entries, err := w.events(ctx, home, home)
		if err != nil {
			return
		}
		l := look{Walker: w, kept: newKept(w.seeds), from: home, to: home, entries: entries}
		differ, err := l.look(ctx)
		if err != nil {
			return
		}
		w.forgive(home, home, func(s suspect) bool { _, still := differ[s]; return still || s.sheet.ofPlaces() })
		w.rest(ctx, 0)
	}
}

// beyond looks for rows that no event of the log can have made.
func (w *Walker) beyond(ctx context.Context, end uint64) error {
	l := look{Walker: w, differ: make(map[suspect]difference)}
	err := l.snapshot(ctx, func(s *projections.Snapshot) error {
		l.at = s.Position()
		for _, of := range sheets {
			if of == &backdatedSheet || of == &endingsSheet || of == &locationLinksSheet || of == &bucketsSheet {
				continue
			}
			none := func(func(*line) bool) {}
			if _, err := l.layouts[of].compare(l.seeds, none, s.Rows(ctx, of.model, of.table, l.at+1, 0), nil, l.differs); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	found, err := w.confirm(ctx, l.differ, l.differ, l.at)
	if err != nil {
		return err
	}
	w.settle(end+1, math.MaxUint64, found, 0)
	w.update(func(s *WalkState) { s.Position = end })
	return nil
}

// rest waits so long that the work since the last rest was no more than the share,
// and returns how long that work was.
//
// When other work keeps the processors busy, most of that time was spent waiting
// for one. So looking at some events is taken to cost no more than slow times what
// it took at best; events is 0 for other work.
func (w *Walker) rest(ctx context.Context, events uint64) (worked time.Duration) {
	worked = w.cfg.Now().Sub(w.worked)
	if events > 0 {
		each := max(1, worked/time.Duration(events)) //nolint:gosec // G115: at most mostEvents
		if w.quickest == 0 || each < w.quickest && events >= leastEvents {
			w.quickest = each
		}
		worked = min(worked, slow*w.quickest*time.Duration(events)) //nolint:gosec // G115: likewise
	}
	pause := time.Duration(float64(worked) * (1/w.cfg.Share - 1))
	if pause > 0 {
		w.cfg.Wait(ctx, min(pause, longestRest))
	}
	w.worked = w.cfg.Now()
	return worked
}

// slow is how much longer than at best it may take to look at events, because there
// is more to them.
const slow = 4

// restWhenDue rests in the middle of long work, while no snapshot is held.
func (w *Walker) restWhenDue(ctx context.Context) {
	if w.cfg.Now().Sub(w.worked) > work {
		w.rest(ctx, 0)
	}
}

// blindAfter is how long it may be unable to look before that is an alarm. A model
// that is switched or a disk that is slow take less.
const blindAfter = time.Minute

// trouble notes why the walker cannot look at what is before a position, loudly the
// first time.
func (w *Walker) trouble(err error, to uint64) {
	now := w.cfg.Now()
	if w.blindFrom.IsZero() {
		w.blindFrom = now
		w.cfg.Logger.Warn("the walker that compares rows with the log cannot look; it tries again", "err", err)
	}
	w.blindTo = max(w.blindTo, to)
	blind := now.Sub(w.blindFrom) >= blindAfter
	w.update(func(s *WalkState) { s.Trouble, s.Blind = err.Error(), blind })
}

// sees notes that the walker has come up to a position, and could look.
func (w *Walker) sees(to uint64) {
	if w.blindFrom.IsZero() || to < w.blindTo {
		return
	}
	w.blindFrom, w.blindTo = time.Time{}, 0
	w.update(func(s *WalkState) { s.Trouble, s.Blind = "", false })
}

// step looks at the rows that some events made. What differs it looks at again,
// with books made anew; what differs then, too, is wrong.
func (w *Walker) step(ctx context.Context, from, to uint64) error {
	entries, err := w.events(ctx, from, to)
	if err != nil {
		return err
	}
	if err := w.examine(ctx, entries); err != nil {
		return err
	}
	places := make(map[uint64]siteRow)
	for _, e := range entries {
		w.sites.apply(e, places)
	}
	first := look{Walker: w, kept: w.kept, from: from, to: to, entries: entries, places: places}
	differ, err := first.look(ctx)
	if err != nil {
		return err
	}
	found := make(map[suspect]Finding)
	if len(differ) > 0 {
		w.rest(ctx, 0)
		second := look{Walker: w, kept: newKept(w.seeds), from: from, to: to, entries: entries, places: places}
		again, err := second.look(ctx)
		if err != nil {
			return err
		}
		if found, err = w.confirm(ctx, differ, again, second.at); err != nil {
			return err
		}
	}
	if from == 1 {
		from = 0 // with what says that it was made before the first event
	}
	w.settle(from, to, found, first.rows)
	return nil
}

// events reads the events from one position to another.
func (w *Walker) events(ctx context.Context, from, to uint64) ([]*entry, error) {
	var all []*entry
	for batch, err := range w.cfg.Store.Subscribe(ctx, from-1) {
		if err != nil {
			return nil, err
		}
		for _, recorded := range batch {
			if recorded.Position > to {
				return all, nil
			}
			all = append(all, readEntry(recorded))
		}
		if batch[len(batch)-1].Position == to {
			return all, nil
		}
	}
	return nil, ctx.Err()
}

// A suspect is a row that differs.
type suspect struct {
	rowKey
	link [3]string // the values of one that has no number
	home uint64    // the position at which it is looked at in each round
}

// confirm describes what differs both times.
func (w *Walker) confirm(ctx context.Context, first, second map[suspect]difference, at uint64) (map[suspect]Finding, error) {
	found := make(map[suspect]Finding)
	d := describer{store: w.cfg.Store, seeds: w.seeds, layouts: w.layouts, sites: w.sites, through: at}
	var told []suspect
	for s := range second {
		if _, both := first[s]; both {
			told = append(told, s)
		}
	}
	slices.SortFunc(told, func(a, b suspect) int {
		return cmp.Or(cmp.Compare(a.event(), b.event()), cmp.Compare(a.sheet.name(), b.sheet.name()))
	})
	for i, s := range told {
		one := second[s]
		f := Finding{Check: s.sheet.name(), Model: s.sheet.model, Table: s.sheet.table, Position: s.event(), Row: s.event()}
		switch {
		case s.sheet == &locationLinksSheet:
			f.Key = s.link[2]
			f.Message = f.Check + ": the link of location " + s.link[2] + " to " + s.link[0] + " " + s.link[1] + " is missing, or should not be there"
		case i < mostDescribed:
			described, err := d.describe(ctx, []difference{one})
			if err != nil {
				return nil, err
			}
			f = described[0]
			w.rest(ctx, 0)
		default:
			f.Message = f.Check + ": a row made by that event is not what the events say"
		}
		found[s] = f
	}
	return found, nil
}

// settle notes what was found in a part of the log, and what is right there again.
func (w *Walker) settle(from, to uint64, found map[suspect]Finding, rows uint64) {
	w.forgive(from, to, func(s suspect) bool { _, still := found[s]; return still })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Position = to
	w.state.Rows += rows
	for _, s := range slices.SortedFunc(maps.Keys(found), func(a, b suspect) int { return cmp.Compare(a.event(), b.event()) }) {
		_, known := w.wrong[s]
		if !known && len(w.wrong) == mostWrong {
			break
		}
		if w.wrong[s] = found[s]; !known && len(w.wrong) <= mostDescribed {
			w.cfg.Logger.Error("a served row is not what the log says; run stockledger verify to see all, and rebuild the read model",
				"check", found[s].Check, "key", found[s].Key, "position", found[s].Position, "stream", found[s].Stream, "finding", found[s].Message)
		}
	}
	w.count()
}

// forgive forgets the rows of a part of the log that are not wrong any more.
func (w *Walker) forgive(from, to uint64, still func(suspect) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, f := range w.wrong {
		if s.home < from || to < s.home || still(s) {
			continue
		}
		delete(w.wrong, s)
		if len(w.damaged) == 0 { // or else it may only be spared
			w.cfg.Logger.Info("a row that was wrong is right again", "check", f.Check, "key", f.Key)
		}
	}
	w.count()
}

// count sums up what is wrong. Its caller has the lock.
func (w *Walker) count() {
	rows, damaged := len(w.wrong), len(w.damaged)
	w.state.Wrong, w.state.Damaged, w.state.First = uint64(rows+damaged), uint64(damaged), nil
	if rows+damaged == 0 {
		w.state.Since = time.Time{}
		return
	}
	if w.state.Since.IsZero() {
		w.state.Since = w.cfg.Now()
	}
	worst := maps.Values(w.wrong)
	if damaged > 0 {
		worst = maps.Values(w.damaged)
	}
	first := slices.MinFunc(slices.Collect(worst), func(a, b Finding) int {
		switch { // one that says what is wrong comes before all that do not
		case a.Key != "" && b.Key == "":
			return -1
		case a.Key == "" && b.Key != "":
			return 1
		}
		return byPlace(a, b)
	})
	w.state.First = &first
}
