package commands

import (
	"context"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// fetch brings everything into memory that the decision will read.
func (e *Engine) fetch(ctx context.Context, j *job) error {
	e.mu.Lock()
	j.epoch = e.epoch
	j.prior = e.recent.commands[j.env.Key]
	e.mu.Unlock()

	j.streams = slices.Clone(j.missing.streams)
	j.pinned, j.found = pins{}, nil
	j.read = 0
	j.seen = e.config.Index.Position()
	if j.prior == nil && (j.keyed || j.tried) { // or else nobody knows the key yet
		var err error
		if j.prior, err = e.priorCommit(ctx, j.env.Key); err != nil {
			return err
		}
	}
	if j.prior != nil {
		return nil
	}
	p := &prefetch{e, j}
	if err := j.command.prefetch(ctx, p); err != nil {
		return err
	}
	for _, at := range j.missing.lookups {
		if _, err := p.find(ctx, at.kind, at.key); err != nil {
			return err
		}
	}
	for _, stream := range j.streams {
		if j.pinned.of(stream) != nil {
			continue
		}
		pinned, err := e.cache.pin(ctx, stream)
		if err != nil {
			return err
		}
		j.pinned.add(pinned)
		j.read = max(j.read, pinned.read)
	}
	return e.fetchArchive(ctx, j)
}

// pins are the aggregates that a job holds. Most have one or two, for which a map
// would cost more than all else that is done to fetch them.
type pins struct {
	all []*entry
	by  map[string]*entry // by stream, once there are more than fewPins
}

const fewPins = 8

func (p *pins) of(stream string) *entry {
	if p.by != nil {
		return p.by[stream]
	}
	for _, e := range p.all {
		if e.stream == stream {
			return e
		}
	}
	return nil
}

func (p *pins) add(e *entry) {
	p.all = append(p.all, e)
	switch {
	case p.by != nil:
		p.by[e.stream] = e
	case len(p.all) > fewPins:
		p.by = make(map[string]*entry, len(p.all))
		for _, e := range p.all {
			p.by[e.stream] = e
		}
	}
}

func (j *job) want(stream string) { j.streams = append(j.streams, stream) }

// priorCommit finds the commit of a key that the index knows, with its answer.
func (e *Engine) priorCommit(ctx context.Context, key string) (*remembered, error) {
	position, digest, found, err := e.config.Index.Command(ctx, key)
	if err != nil || !found {
		return nil, err
	}
	for batch, err := range e.config.Store.Subscribe(ctx, position-1) {
		if err != nil {
			return nil, fmt.Errorf("%w: read the answer of command %s: %w", errRead, key, err)
		}
		meta, err := batch[0].Metadata()
		if err != nil {
			return nil, err
		}
		if meta.CommandID != key {
			return nil, fmt.Errorf("position %d holds command %s, not %s as the index says", position, meta.CommandID, key)
		}
		return &remembered{key: key, digest: digest, position: position, answer: meta.Answer}, nil
	}
	return nil, nil
}

// lookup asks the index, once for a job.
func (e *Engine) lookup(ctx context.Context, j *job, at lookup) ([]Ref, error) {
	if all, done := j.found[at]; done {
		return all, nil
	}
	all, err := e.config.Index.Find(ctx, at.kind, at.key)
	if err != nil {
		return nil, fmt.Errorf("look up %s %s: %w", at.kind, at.key, err)
	}
	if j.found == nil {
		j.found = make(map[lookup][]Ref, 1)
	}
	j.found[at] = all
	return all, nil
}

// fetchArchive reads released and used-up reservations that their items have
// forgotten.
func (e *Engine) fetchArchive(ctx context.Context, j *job) error {
	wanted := make(map[string][]string) // reservations by item
	for _, ref := range j.missing.archive {
		wanted[ref.Item] = append(wanted[ref.Item], ref.ID)
	}
	for item, reservations := range wanted {
		a := j.archives[item]
		if a == nil || !a.has(reservations) {
			a = newArchive(reservations)
		}
		if err := a.read(ctx, e.config.Store, events.ItemStream(item)); err != nil {
			return err
		}
		if j.archives == nil {
			j.archives = make(map[string]*archive)
		}
		j.archives[item] = a
	}
	return nil
}

// archive is what reading an item's stream from its beginning found. A command
// keeps it while it is decided again, so that only what came since has to be read:
// otherwise a busy item would be further each time than its stream was read.
type archive struct {
	item  domain.Item
	last  events.Recorded               // the newest event read
	ended map[string]domain.Reservation // those asked for, as they were released or used up last
}

func newArchive(reservations []string) *archive {
	a := &archive{ended: make(map[string]domain.Reservation, len(reservations))}
	for _, id := range reservations {
		a.ended[id] = domain.Reservation{}
	}
	return a
}

// has reports whether the reservations were all asked for.
func (a *archive) has(reservations []string) bool {
	return !slices.ContainsFunc(reservations, func(id string) bool {
		_, asked := a.ended[id]
		return !asked
	})
}

// read reads on to the end of the stream.
func (a *archive) read(ctx context.Context, store events.Store, stream string) error {
	from := Snapshot{Version: a.last.Version, Hash: a.last.Hash}
	last, err := replay(ctx, store, stream, from, func(_ events.Recorded, fact events.Fact, at domain.Stamp) {
		a.item.Apply(fact, at)
		var id string
		switch f := fact.(type) {
		case events.ReservationReleased:
			id = f.ReservationID
		case events.ReservationFulfilled:
			id = f.ReservationID
		default:
			return
		}
		if _, asked := a.ended[id]; asked {
			a.ended[id], _ = a.item.Released(id)
		}
	})
	a.last = last
	return err
}

// prefetch collects what a command's decision will read: aggregates, which are
// pinned in memory, and lookups in the index.
type prefetch struct {
	engine *Engine
	job    *job
}

func (p *prefetch) item(id string)     { p.job.want(events.ItemStream(id)) }
func (p *prefetch) sku(sku string)     { p.job.want(events.SKUStream(sku)) }
func (p *prefetch) variant(id string)  { p.job.want(events.VariantStream(id)) }
func (p *prefetch) location(id string) { p.job.want(events.LocationStream(id)) }

// find looks key up, and wants the items found.
func (p *prefetch) find(ctx context.Context, kind, key string) ([]Ref, error) {
	found, err := p.engine.lookup(ctx, p.job, lookup{kind, key})
	if err != nil {
		return nil, err
	}
	for _, ref := range found {
		p.item(ref.Item)
	}
	return found, nil
}
