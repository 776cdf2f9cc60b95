package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// open opens what the catalogue names, begins what has to be built, and starts.
func (c *core) open(ctx context.Context, head uint64) error {
	if err := c.readLines(ctx); err != nil {
		return fmt.Errorf("open read models: %w", err)
	}
	var run []*model
	for _, l := range c.lines {
		models, err := c.openLine(ctx, l, head)
		if err != nil {
			return fmt.Errorf("open read model %s: %w", l.name(), err)
		}
		run = append(run, models...)
	}
	if err := c.save(); err != nil {
		return fmt.Errorf("open read models: %w", err)
	}
	if err := c.sweep(); err != nil {
		return fmt.Errorf("open read models: %w", err)
	}
	c.start(run...)
	for _, l := range c.lines {
		if l.next != nil {
			c.build(l, l.next, head)
		}
	}
	return nil
}

// readLines reads the catalogue. Without one, what is there is taken for what its
// name says.
func (c *core) readLines(ctx context.Context) error {
	was, err := readCatalogue(c.dir)
	if err != nil {
		return err
	}
	files, err := c.generationFiles()
	if err != nil {
		return err
	}
	for i, lineage := range c.config.lineages() {
		l := &line{lineage: lineage}
		switch {
		case was != nil && was.Models[lineage.name()] != nil:
			l.record = was.Models[lineage.name()]
		default:
			l.record = c.adopted(ctx, files[lineage.name()])
		}
		c.lines[i] = l
	}
	return nil
}

// generationFile is the name of a file of a generation, and of what SQLite puts
// beside it.
var generationFile = regexp.MustCompile(`^([a-z]+)\.v(\d+)(?:\.g(\d+))?\.db(-wal|-shm|-journal)?$`)

// generationFiles are the files of generations that are there, by model.
func (c *core) generationFiles() (map[string][]*entry, error) {
	all, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]*entry)
	for _, file := range all {
		name := generationFile.FindStringSubmatch(file.Name())
		if name == nil || name[4] != "" {
			continue
		}
		version, _ := strconv.Atoi(name[2])
		number, _ := strconv.Atoi(name[3])
		e := &entry{Number: max(number, 1), Version: version, File: file.Name()}
		if info, err := file.Info(); err == nil {
			e.Made = info.ModTime().UTC().Truncate(time.Second)
		}
		files[name[1]] = append(files[name[1]], e)
	}
	return files, nil
}

// adopted is what a model has when the catalogue does not say: the generation that
// has folded most is served, and the newest of those. Of two that have one number,
// the older version gives way.
func (c *core) adopted(ctx context.Context, files []*entry) *record {
	slices.SortFunc(files, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(b.Version, a.Version))
	})
	r := new(record)
	for _, e := range files {
		if r.entry(e.Number) != nil {
			continue
		}
		e.Position = foldedUpTo(ctx, filepath.Join(c.dir, e.File))
		r.Entries = append(r.Entries, e)
		if served := r.entry(r.Serving); served == nil || e.Position >= served.Position {
			r.Serving = e.Number
		}
		r.Last = e.Number
	}
	return r
}

// foldedUpTo is the position that a file says it is at, 0 when it cannot be read.
func foldedUpTo(ctx context.Context, path string) (at uint64) {
	db := openReaders(path)
	defer db.Close()
	if err := db.QueryRowContext(ctx, `SELECT position FROM checkpoint`).Scan(&at); err != nil {
		return 0
	}
	return at
}

// openLine opens the generation of a model that is served and the one that is
// built, and decides what is built.
func (c *core) openLine(ctx context.Context, l *line, head uint64) (run []*model, err error) {
	if len(l.Entries) == 0 {
		l.Serving = l.add(l.name(), l.now.version, c.clock().UTC()).Number
	}
	if err := c.openServed(ctx, l, head); err != nil {
		return nil, err
	}
	if l.serves != nil {
		run = append(run, l.serves)
	}
	if err := c.openNext(ctx, l, head); err != nil {
		return nil, err
	}
	if l.next != nil {
		run = append(run, l.next)
	}
	return run, nil
}

// openServed opens the generation that is served. When this program has no folds
// for it, the best of those that are kept is served instead, if there is one.
func (c *core) openServed(ctx context.Context, l *line, head uint64) (err error) {
	if e := l.entry(l.Serving); e != nil && l.knows(e) {
		l.serves, err = c.openGeneration(ctx, l, *e, head)
		return err
	}
	if l.Serving != 0 {
		l.Before, l.Serving = l.Serving, 0
	}
	e := l.bestKept()
	if e == nil {
		return nil
	}
	if l.serves, err = c.openGeneration(ctx, l, *e, head); err != nil {
		c.logger.Error("a generation that was kept cannot be served", "model", l.name(), "generation", e.Number, "err", err)
		return nil
	}
	if l.Serving = e.Number; l.Before == e.Number {
		l.Before = 0
	}
	return nil
}

// knows reports whether this program has folds for a generation.
func (l *line) knows(e *entry) bool {
	_, known := l.folds(e.Version)
	return known
}

// bestKept is the generation that is kept, of the version that is now if there is
// one, that has folded most.
func (l *line) bestKept() (best *entry) {
	for _, e := range l.Entries {
		switch isNow := e.Version == l.now.version; {
		case e.Number == l.Building || !l.knows(e):
		case best == nil, isNow && best.Version != l.now.version,
			isNow == (best.Version == l.now.version) && e.Position >= best.Position:
			best = e
		}
	}
	return best
}

// openNext opens the generation that was being built, or begins one when the
// version of the model has changed. What cannot be opened is built anew.
func (c *core) openNext(ctx context.Context, l *line, head uint64) (err error) {
	e := l.entry(l.Building)
	if e != nil && e.Version != l.now.version {
		e = nil // another program was building it
	}
	if e != nil {
		l.next, err = c.openGeneration(ctx, l, *e, head)
		if err == nil {
			return nil
		}
		c.logger.Error("a generation that was being built cannot be opened; it is built anew", "model", l.name(), "generation", e.Number, "err", err)
	}
	l.forget(l.Building)
	if e != nil || l.serves == nil || l.outdated() {
		l.next, err = c.begin(ctx, l, head, e != nil && e.Asked)
	}
	return err
}

// outdated reports whether what is served is of another version than that of the
// program, and nobody has gone back to it from there.
func (l *line) outdated() bool {
	return l.serves.made.Version != l.now.version && (l.Left == nil || *l.Left != l.now.version)
}

// sweep removes the files of generations that the catalogue does not name, which a
// crash has left.
func (c *core) sweep() error {
	all, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	named := make(map[string]bool)
	for _, l := range c.lines {
		for _, e := range l.Entries {
			named[e.File] = true
		}
	}
	var errs []error
	for _, file := range all {
		name := generationFile.FindStringSubmatch(file.Name())
		if name == nil || named[strings.TrimSuffix(file.Name(), name[4])] || !c.has(name[1]) {
			continue
		}
		c.logger.Info("a file that no generation of a read model has is removed", "file", file.Name())
		errs = append(errs, os.Remove(filepath.Join(c.dir, file.Name())))
	}
	return errors.Join(errs...)
}

// has reports whether there is a model of that name.
func (c *core) has(model string) bool {
	_, err := c.line(model)
	return err == nil
}

// save writes the catalogue; nothing has been started.
func (c *core) save() error { return c.saying(c.records()).write(c.dir) }

// change has the catalogue say something else of a model once that is durable.
// That takes a while, in which answers are made; who calls it administers, so
// nobody else changes the catalogue meanwhile.
func (c *core) change(l *line, do func(*record)) error {
	c.mu.Lock()
	next := c.records()
	c.mu.Unlock()
	do(next[slices.Index(c.lines[:], l)])
	if err := c.saying(next).write(c.dir); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restore(next)
	return nil
}

// saying is a catalogue of records.
func (c *core) saying(records [sources]*record) *catalogue {
	all := &catalogue{Models: make(map[string]*record)}
	for i, l := range c.lines {
		all.Models[l.name()] = records[i]
	}
	return all
}

// records are what the catalogue says now; mu is held.
func (c *core) records() (all [sources]*record) {
	for i, l := range c.lines {
		all[i] = l.clone()
	}
	return all
}

// restore has the catalogue say something else; mu is held.
func (c *core) restore(all [sources]*record) {
	for i, l := range c.lines {
		l.record = all[i]
	}
}
