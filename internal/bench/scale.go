package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// ScaleConfig says over how many callers something is looked at.
type ScaleConfig struct {
	Callers  []int         `json:"callers"`
	Items    int           `json:"items"`
	Duration time.Duration `json:"-"` // of each point
}

// DefaultCallers are the points of a curve.
var DefaultCallers = []int{1, 2, 4, 8, 16, 32, 64, 128, 256}

// A Scale is throughput and latency over callers.
type Scale struct {
	Machine Machine           `json:"machine"`
	Config  ScaleConfig       `json:"config"`
	Curves  []Curve           `json:"curves"`
	Check   Check             `json:"check"` // of the ledger
	LeftOut map[string]string `json:"left_out,omitempty"`
}

// A Curve is one of what was looked at, a point for each number of callers.
type Curve struct {
	What   string    `json:"what"`
	Points []Figures `json:"points"`
}

// Err is what makes the figures worthless.
func (s Scale) Err() error {
	errs := []error{s.Check.Err()}
	for _, c := range s.Curves {
		for _, p := range c.Points {
			if p.Errors > 0 {
				errs = append(errs, fmt.Errorf("%s, %d callers: %d errors, such as: %s", c.What, p.Callers, p.Errors, p.Error))
			}
		}
	}
	return errors.Join(errs...)
}

// TakeScale adjusts with more and more callers: a ledger, a file with the same bytes,
// and PostgreSQL if there is one, one after the other at each point.
func (b *Bench) TakeScale(ctx context.Context, config ScaleConfig) (scale Scale, err error) {
	scale = Scale{Machine: b.machine, Config: config}
	dir, remove, err := b.fresh("scale")
	if err != nil {
		return scale, err
	}
	defer remove()
	s, err := b.openSubject(ctx, filepath.Join(dir, "ledger"), config.Items)
	if err != nil {
		return scale, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	table, err := b.openTable(ctx, config.Items, slices.Max(config.Callers))
	if err != nil && !errors.As(err, new(errNoPostgres)) {
		return scale, fmt.Errorf("PostgreSQL: %w", err)
	}
	if table != nil {
		defer func() { err = errors.Join(err, table.drop(ctx, b.postgres.cluster)) }()
	}
	bytes, err := s.bytesEach(ctx, b)
	if err != nil {
		return scale, err
	}
	for _, callers := range config.Callers {
		if err := b.point(ctx, &scale, s, table, Load{Callers: callers, Duration: config.Duration}, bytes); err != nil {
			return scale, err
		}
	}
	scale.LeftOut = b.leftOut
	scale.Check, err = s.check(ctx)
	if err == nil && table != nil {
		err = table.check(ctx)
	}
	return scale, err
}

// bytesEach is how many bytes of the log an adjustment takes.
func (s *subject) bytesEach(ctx context.Context, b *Bench) (int, error) {
	for _, w := range s.workers(b, inGo{s.ledger}, 8, AllAdjust) {
		if _, err := w(ctx); err != nil {
			return 0, err
		}
	}
	check, err := s.check(ctx)
	return int(check.bytesEach()), err
}

// point adds the figures of a number of callers.
func (b *Bench) point(ctx context.Context, scale *Scale, s *subject, table *postgresTable, load Load, bytes int) error {
	tell := b.Progress
	defer func() { b.Progress = tell }()
	b.Progress = func(what string, done, total uint64) {
		tell(fmt.Sprintf("%d callers: %s", load.Callers, what), done, total)
	}

	ledger := LoadConfig{Load: load, Mix: AllAdjust, Transport: Go}
	figures, err := b.drive(ctx, ledger.figures(), load, s.workers(b, inGo{s.ledger}, load.Callers, AllAdjust))
	if err != nil {
		return err
	}
	// What the read models have yet to fold is not work of the next one.
	if err := s.caughtUp(ctx, b); err != nil {
		return err
	}
	scale.add(figures)
	if figures, err = b.RawFile(ctx, load, bytes); err != nil {
		return err
	}
	scale.add(figures)
	if table == nil {
		return nil
	}
	figures, err = table.load(ctx, b, load, inOne)
	scale.add(figures)
	return err
}

func (s *Scale) add(f Figures) {
	for i := range s.Curves {
		if s.Curves[i].What == f.What {
			s.Curves[i].Points = append(s.Curves[i].Points, f)
			return
		}
	}
	s.Curves = append(s.Curves, Curve{f.What, []Figures{f}})
}
