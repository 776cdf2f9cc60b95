package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// LoadConfig says what load a ledger is put under.
type LoadConfig struct {
	Load
	Items     int       `json:"items"`
	Mix       Mix       `json:"mix"`
	Transport Transport `json:"transport"`
	Feed      bool      `json:"feed"` // published meanwhile, as a server does
}

// A Report is what a load found out, and what stands beside it.
type Report struct {
	Machine Machine    `json:"machine"`
	Config  LoadConfig `json:"load"`
	Ratios  []Ratio    `json:"ratios"`
	Ledger  Figures    `json:"ledger"`
	Beside  []Figures  `json:"beside"`
	Check   Check      `json:"check"`
	// LeftOut is what was not measured, with the reason.
	LeftOut map[string]string `json:"left_out,omitempty"`
}

// A Ratio is a figure of the ledger divided by that of what stands beside it.
type Ratio struct {
	What   string  `json:"what"`
	Ratio  float64 `json:"ratio"`
	Ours   float64 `json:"ours"`
	Beside float64 `json:"beside"`
}

// Err is what makes the figures worthless: anything failed, or the ledger is wrong.
func (r Report) Err() error {
	errs := []error{r.Check.Err()}
	for _, f := range append([]Figures{r.Ledger}, r.Beside...) {
		if f.Errors > 0 {
			errs = append(errs, fmt.Errorf("%s: %d errors, such as: %s", f.What, f.Errors, f.Error))
		}
	}
	return errors.Join(errs...)
}

// Load puts a ledger of its own under load, checks it, and measures beside it a raw
// file with the same bytes, a NATS echo service if the ledger is reached over NATS,
// and PostgreSQL if there is one. PostgreSQL and the file only adjust, so they stand
// beside the commands of a mix, and not beside one that has reads.
func (b *Bench) Load(ctx context.Context, config LoadConfig) (Report, error) {
	r := Report{Machine: b.machine, Config: config, LeftOut: b.leftOut}
	var err error
	if r.Ledger, r.Check, err = b.Ledger(ctx, config); err != nil {
		return r, err
	}
	if config.Transport == NATS {
		echo, err := b.Echo(ctx, config.Load, config.Mix)
		if err != nil {
			return r, fmt.Errorf("NATS echo service: %w", err)
		}
		r.add("requests of a NATS echo service", echo)
	}
	if config.Mix[Read] > 0 {
		r.LeftOut = maps.Clone(r.LeftOut)
		r.LeftOut["the file and PostgreSQL"] = "they only write, and the mix has reads"
		return r, nil
	}
	file, err := b.RawFile(ctx, config.Load, int(r.Ledger.Bytes))
	if err != nil {
		return r, fmt.Errorf("group-committed file: %w", err)
	}
	r.add("adjustments of a group-committed file of the same bytes", file)
	for _, in := range []struct {
		what string
		one  bool
	}{{"a careful PostgreSQL transaction", false}, {"the same in one statement", true}} {
		postgres, err := b.PostgreSQL(ctx, config.Load, config.Items, in.one)
		if errors.As(err, new(errNoPostgres)) {
			break
		}
		if err != nil {
			return r, fmt.Errorf("PostgreSQL: %w", err)
		}
		r.add(in.what, postgres)
	}
	r.Ratios = append(r.Ratios, Ratio{"p99 of the group-committed file", over(r.Ledger.P99, file.P99), r.Ledger.P99, file.P99})
	return r, nil
}

func (r *Report) add(what string, f Figures) {
	r.Beside = append(r.Beside, f)
	r.Ratios = append(r.Ratios, Ratio{what, over(r.Ledger.Rate, f.Rate), r.Ledger.Rate, f.Rate})
}

// over is a divided by b, 0 when there is no b.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// Ledger puts a new ledger under load, and checks it.
func (b *Bench) Ledger(ctx context.Context, config LoadConfig) (figures Figures, check Check, err error) {
	dir, remove, err := b.fresh("ledger")
	if err != nil {
		return figures, check, err
	}
	defer remove()
	s, err := b.openSubject(ctx, dir, config.Items)
	if err != nil {
		return figures, check, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	at, end, err := s.open(ctx, config.Transport, config.Feed)
	if err != nil {
		return figures, check, err
	}
	figures, err = b.drive(ctx, config.figures(), config.Load, s.workers(b, at, config.Callers, config.Mix))
	if err := errors.Join(err, end()); err != nil {
		return figures, check, err
	}
	figures.Group = over(float64(s.commits.Load()), float64(s.groups.Load()))
	check, err = s.check(ctx)
	figures.Bytes = check.bytesEach()
	return figures, check, err
}

func (c LoadConfig) figures() Figures {
	what := map[Transport]string{Go: "ledger, Go API", NATS: "ledger, NATS", HTTP: "ledger, HTTP"}[c.Transport]
	if c.Feed {
		what += " with its feed"
	}
	return Figures{What: what, Durable: c.Mix[Read] < 100}
}
