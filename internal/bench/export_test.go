package bench

import (
	"context"
	"errors"
	"sync"
)

// Rounds has so many callers do so many things each, however long that takes, and says
// how many were of each kind.
func (b *Bench) Rounds(ctx context.Context, by Transport, mix Mix, callers, each int) (done map[Kind]int, check Check, err error) {
	dir, remove, err := b.fresh("rounds")
	if err != nil {
		return nil, check, err
	}
	defer remove()
	s, err := b.openSubject(ctx, dir, 20)
	if err != nil {
		return nil, check, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	at, end, err := s.open(ctx, by, false)
	if err != nil {
		return nil, check, err
	}
	done = map[Kind]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	for _, w := range s.workers(b, at, callers, mix) {
		all.Go(func() {
			for range each {
				kind, err := w(ctx)
				mu.Lock()
				done[kind]++
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err := errors.Join(append(errs, end())...); err != nil {
		return done, check, err
	}
	check, err = s.check(ctx)
	return done, check, err
}

// Lose has a check believe that a caller was acknowledged one command more.
func (b *Bench) Lose(ctx context.Context) (check Check, err error) {
	dir, remove, err := b.fresh("lost")
	if err != nil {
		return check, err
	}
	defer remove()
	s, err := b.openSubject(ctx, dir, 2)
	if err != nil {
		return check, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	if _, err := s.workers(b, inGo{s.ledger}, 1, AllAdjust)[0](ctx); err != nil {
		return check, err
	}
	s.callers[0].sent++
	s.stocked[0].Add(1)
	return s.check(ctx)
}
