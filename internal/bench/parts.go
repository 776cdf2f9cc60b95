package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/figures"
)

// partOrder is the order of the parts of a run. What is divided by each other is next
// to each other.
var partOrder = []string{"file", "spread", "postgres", "postgres-one", "hot-postgres", "hot", "nats", "feed", "query", "echo", "rebuild", "large", "memory"}

// partsOf are the parts that rows need in a run.
func partsOf(wanted []aim, run int) (names []string) {
	for _, name := range partOrder {
		if slices.ContainsFunc(wanted, func(a aim) bool {
			return (run == 0 || !a.once) && (strings.HasPrefix(a.ours, name+".") || strings.HasPrefix(a.beside, name+"."))
		}) {
			names = append(names, name)
		}
	}
	return names
}

// parts take the values of a table. Logs that have to grow first are made once.
type parts struct {
	b      *Bench
	config TableConfig
	prefix string // of what is told
	bytes  int    // of a commit in the log, once it is known
	kept   map[string]*subject
	remove closers
}

func (p *parts) close() error { return p.remove.close() }

// take measures a part and adds its values.
func (p *parts) take(ctx context.Context, name string, values takings) error {
	tell := p.b.Progress
	defer func() { p.b.Progress = tell }()
	p.b.Progress = func(what string, done, total uint64) { tell(p.prefix+what, done, total) }
	load := Load{Callers: p.config.Callers, Duration: p.config.Duration}
	ledger := LoadConfig{Load: load, Items: p.config.Items, Mix: AllAdjust, Transport: Go}
	switch name {
	case "file":
		return p.file(ctx, load, values)
	case "spread":
		return p.load(ctx, name, ledger, values)
	case "hot":
		ledger.Items = 1
		return p.load(ctx, name, ledger, values)
	case "nats":
		ledger.Transport = NATS
		return p.load(ctx, name, ledger, values)
	case "feed":
		ledger.Transport, ledger.Feed = NATS, true
		return p.load(ctx, name, ledger, values)
	case "query":
		ledger.Transport, ledger.Mix = NATS, Mix{Read: 100}
		return p.load(ctx, name, ledger, values)
	case "echo":
		figures, err := p.b.Echo(ctx, load, Mix{Read: 100})
		return values.note(name, figures, err)
	case "postgres":
		figures, err := p.b.PostgreSQL(ctx, load, p.config.Items, false)
		return values.note(name, figures, err)
	case "postgres-one":
		figures, err := p.b.PostgreSQL(ctx, load, p.config.Items, true)
		return values.note(name, figures, err)
	case "hot-postgres":
		figures, err := p.b.PostgreSQL(ctx, load, 1, true)
		return values.note(name, figures, err)
	case "rebuild":
		return p.rebuild(ctx, values)
	case "large":
		return p.large(ctx, values)
	default:
		return p.memory(ctx, values)
	}
}

// note adds the figures of a load, unless anything failed.
func (v takings) note(name string, f Figures, err error) error {
	if err == nil && f.Errors > 0 {
		err = errors.New(f.Error)
	}
	if err == nil {
		v[name+".rate"], v[name+".p99"] = f.Rate, f.P99
	}
	return err
}

func (p *parts) load(ctx context.Context, name string, config LoadConfig, values takings) error {
	figures, check, err := p.b.Ledger(ctx, config)
	if err == nil {
		err = check.Err()
	}
	if p.bytes == 0 && name == "spread" {
		p.bytes = int(figures.Bytes)
	}
	return values.note(name, figures, err)
}

// file writes as many bytes as the log does; how many that are, a short load finds out.
func (p *parts) file(ctx context.Context, load Load, values takings) error {
	if p.bytes == 0 {
		short := LoadConfig{Load: Load{Callers: 8, Duration: 100 * time.Millisecond}, Items: p.config.Items, Mix: AllAdjust, Transport: Go}
		figures, _, err := p.b.Ledger(ctx, short)
		if err != nil {
			return err
		}
		p.bytes = int(figures.Bytes)
	}
	figures, err := p.b.RawFile(ctx, load, p.bytes)
	return values.note("file", figures, err)
}

// grown is a ledger with a log of its own, made once for all runs.
func (p *parts) grown(ctx context.Context, name string, size uint64, mix Mix) (*subject, error) {
	if s := p.kept[name]; s != nil {
		return s, nil
	}
	s, remove, err := p.b.grown(ctx, "a log of "+figures.Thousands(size)+" events", min(p.config.Items, int(size)/10), size, mix) //nolint:gosec // G115: a million
	if err != nil {
		return nil, err
	}
	p.remove.add(func() error { remove(); return nil })
	if p.kept == nil {
		p.kept = map[string]*subject{}
	}
	p.kept[name] = s
	return s, nil
}

func (p *parts) rebuild(ctx context.Context, values takings) error {
	s, err := p.grown(ctx, "small", p.config.Small, AllAdjust)
	if err != nil {
		return err
	}
	_, inserting, err := p.b.insertAll(ctx, s)
	if err != nil {
		return err
	}
	if values["rebuild.rate"], err = p.rebuilt(ctx, s); err != nil {
		return err
	}
	values["rebuild.inserts"] = float64(s.seeded+uint64(s.events.Load())) / inserting.Seconds() //nolint:gosec // G115: not negative
	return nil
}

// rebuilt opens a ledger, builds its read models anew, and closes it.
func (p *parts) rebuilt(ctx context.Context, s *subject) (perSecond float64, err error) {
	if err := s.openLedger(ctx, p.b); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	return p.b.rebuildAll(ctx, s)
}

func (p *parts) large(ctx context.Context, values takings) error {
	s, err := p.grown(ctx, "large", p.config.Large, everyKind)
	if err != nil {
		return err
	}
	took, err := p.b.start(ctx, s)
	if err != nil {
		return err
	}
	values["large.start"] = took.Seconds()
	values["large.rate"], err = p.rebuilt(ctx, s)
	return err
}

func (p *parts) memory(ctx context.Context, values takings) error {
	m, err := p.b.MemoryOnce(ctx, p.config.Memory)
	if err == nil {
		values["memory.peak"] = float64(m.Peak) / (1 << 30)
	}
	return err
}

// MemoryOnce takes the memory of a ledger, in a process of its own if there may be
// one, the first time it is asked for.
func (b *Bench) MemoryOnce(ctx context.Context, config MemoryConfig) (Memory, error) {
	if b.memory != nil && b.memory.Config == config {
		return *b.memory, nil
	}
	take := b.Memory
	if take == nil {
		take = b.TakeMemory
	}
	m, err := take(ctx, config)
	m.Config = config
	if err == nil {
		b.memory = &m
	}
	return m, err
}
