package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// catalogueFile names the generations. It is replaced as a whole, so a crash
// leaves the old one or the new one.
const catalogueFile = "generations.json"

// A record is what the catalogue says of one model.
type record struct {
	Last     int      `json:"last"`           // the highest number a generation ever had
	Serving  int      `json:"serving"`        // 0: none can be served yet
	Before   int      `json:"before"`         // the one that was served before, 0 when there is none
	Building int      `json:"building"`       // the one that is built or ready, 0 when there is none
	Left     *int     `json:"left,omitempty"` // the version that was gone back from, to which nothing goes by itself again
	Entries  []*entry `json:"generations"`
}

// An entry is what the catalogue says of one generation.
type entry struct {
	Number   int       `json:"generation"`
	Version  int       `json:"version"` // of the folds that made it
	File     string    `json:"file"`
	Made     time.Time `json:"made_at"`
	Asked    bool      `json:"asked,omitempty"` // by somebody, who switches to it
	Position uint64    `json:"position"`        // where it was when it was kept
}

// entry finds a generation, nil if there is none of that number.
func (r *record) entry(number int) *entry {
	i := slices.IndexFunc(r.Entries, func(e *entry) bool { return e.Number == number })
	if i < 0 {
		return nil
	}
	return r.Entries[i]
}

// add makes the next generation.
func (r *record) add(model string, version int, made time.Time) *entry {
	r.Last++
	e := &entry{Number: r.Last, Version: version, File: fileName(model, version, r.Last), Made: made}
	r.Entries = append(r.Entries, e)
	return e
}

// serve has another generation be served, maybe because somebody goes back to it.
func (r *record) serve(number int, back bool) {
	r.Left = nil
	if from := r.entry(r.Serving); from != nil && back {
		r.Left = new(from.Version)
	}
	if r.Serving != 0 {
		r.Before = r.Serving
	}
	if r.Serving = number; r.Building == number {
		r.Building = 0
	}
}

// forget takes a generation out.
func (r *record) forget(number int) {
	r.Entries = slices.DeleteFunc(slices.Clone(r.Entries), func(e *entry) bool { return e.Number == number })
	for _, role := range []*int{&r.Serving, &r.Before, &r.Building} {
		if *role == number {
			*role = 0
		}
	}
}

// clone is a copy that shares nothing.
func (r *record) clone() *record {
	c := *r
	c.Entries = nil
	for _, e := range r.Entries {
		c.Entries = append(c.Entries, new(*e))
	}
	return &c
}

// fileName names the file of a generation. The first one is named as it was when
// there were no others.
func fileName(model string, version, number int) string {
	if number == 1 {
		return fmt.Sprintf("%s.v%d.db", model, version)
	}
	return fmt.Sprintf("%s.v%d.g%d.db", model, version, number)
}

// A catalogue is the file.
type catalogue struct {
	Models map[string]*record `json:"models"`
}

// readCatalogue reads what a directory says of its generations; nil if it does not.
func readCatalogue(dir string) (*catalogue, error) {
	path := filepath.Join(dir, catalogueFile)
	text, err := os.ReadFile(path) //nolint:gosec // the directory is configured
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if err != nil {
		return nil, err
	}
	var c catalogue
	err = json.Unmarshal(text, &c)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; remove it, and of the generations that are there the one that has folded most is served", path, err)
	}
	return &c, nil
}

// check refuses what was never written.
func (c *catalogue) check() error {
	if c.Models == nil {
		return errors.New("it names no models")
	}
	for name, r := range c.Models {
		if r == nil {
			return fmt.Errorf("it says nothing of %s", name)
		}
		for _, e := range r.Entries {
			if e == nil || !generationFile.MatchString(e.File) {
				return fmt.Errorf("it names no file for a generation of %s", name)
			}
		}
	}
	return nil
}

// write replaces the catalogue of a directory. When it returns nil the new one is
// durable; otherwise either may hold.
func (c *catalogue) write(dir string) error {
	err := c.stage(dir)
	if err == nil {
		err = publish(dir)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

// stage makes a catalogue durable beside the one that holds.
func (c *catalogue) stage(dir string) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = writeDurably(staged(dir), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the catalogue of the read models: %w", err)
	}
	return nil
}

// publish has the catalogue that was staged hold. That takes no time.
func publish(dir string) error {
	if err := os.Rename(staged(dir), filepath.Join(dir, catalogueFile)); err != nil {
		return fmt.Errorf("replace the catalogue of the read models: %w", err)
	}
	return nil
}

func staged(dir string) string { return filepath.Join(dir, catalogueFile+".new") }

func writeDurably(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the directory is configured
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes a rename in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the directory is configured
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
