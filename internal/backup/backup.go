// Package backup copies a ledger while it runs, and makes a ledger of such a copy
// elsewhere. Neither is done until what was copied has been opened and verified.
//
// A backup is a directory, or a tar file with the same in it:
//
//	manifest.json  what this is: the log, its position and head, and the sums of the files
//	log.db         the log, see events/sqlitestore
//	refusals.db    the refused commands, where the ledger has any
//
// The read models are not in it, because they are built from the log. While a
// backup or a restoration is made everything is in one directory whose name ends
// in .partial; the last step renames, so that what has the right name is whole.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

// format is the version of the manifest and of what is beside it.
const format = 1

// The files of a backup, and the directory of the read models in a ledger.
const (
	manifestName = "manifest.json"
	logName      = "log.db"
	refusalsName = "refusals.db"
	modelsName   = "models"
)

// maxManifest is more than a manifest ever has, in bytes.
const maxManifest = 1 << 20

// A Manifest says what a backup is of, and what must be in its files.
type Manifest struct {
	Format int `json:"format"` // of the backup
	// Head is the log that was copied, up to which position, and its fingerprint.
	Head     evidence.Head `json:"head"`
	MadeAt   time.Time     `json:"made_at"`
	Version  string        `json:"version"`  // of the program that made it
	Verified bool          `json:"verified"` // every event and every row made of them was checked
	Files    []File        `json:"files"`
}

// A File is one file of a backup.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // in hexadecimal
}

// Bytes is the size of all files together.
func (m Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// lists reports whether it has a file of that name.
func (m Manifest) lists(name string) bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return f.Name == name })
}

// A Progress hears how far long work is, often; it may be nil.
type Progress = func(stage string, done, total uint64)

// Config says what to back up, and where to. Store, Dir and To must be set.
type Config struct {
	Store events.Store // the log, in use
	Dir   string       // the data directory of the ledger
	// To is where the backup is made: a directory, or a file when its name ends in
	// .tar. There must be nothing yet; the directory above must be there.
	To string
	// Unverified leaves out the proof, which builds the read models anew from the
	// copy, and so takes longer than copying.
	Unverified bool
	Version    string           // of the program
	Now        func() time.Time // nil is time.Now
	Progress   Progress
}

// copier is a store that can be copied while it is in use.
type copier interface {
	Backup(ctx context.Context, path string, progress func(stage string, done, total uint64)) error
}

// Check refuses a store that cannot be copied while it is in use.
func Check(store events.Store) error {
	if _, ok := store.(copier); !ok {
		return fault.New(fault.NotAllowed, "no_backup",
			"only a log in a file of its own can be backed up; back up the event store that has this one with its own means, "+
				"or copy the log into a data directory with `stockledger copy-log`, and back up that")
	}
	return nil
}

// Take makes a backup of a ledger that goes on meanwhile. It holds every event up
// to the head that the log had when Take began. When it fails, nothing is left at
// To. It refuses to replace anything.
func Take(ctx context.Context, cfg Config) (Manifest, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the default of what the caller may set
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	if err := Check(cfg.Store); err != nil {
		return Manifest{}, err
	}
	if err := mayMake(cfg.To); err != nil {
		return Manifest{}, err
	}
	m, err := take(ctx, cfg, cfg.Store.(copier))
	if err != nil {
		return Manifest{}, failed(ctx, "back up to "+cfg.To, err)
	}
	return m, nil
}

// mayMake refuses a place where something is already.
func mayMake(to string) error {
	for _, other := range []string{".gz", ".tgz", ".zip", ".zst", ".xz", ".bz2"} {
		if strings.HasSuffix(strings.ToLower(to), other) {
			return fault.New(fault.Invalid, "unknown_format",
				"a backup is a directory or a .tar file; back up to a name without %s, and compress that", other).With("to", to)
		}
	}
	_, err := os.Lstat(to)
	switch {
	case err == nil:
		return fault.New(fault.Conflict, "file_exists", "there is something at %s already; name a new place, or remove it first", to).With("to", to)
	case !errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Invalid, "cannot_write", "back up to %s: %v", to, err).With("to", to)
	}
	return nil
}

// inFile reports whether the backup is to be one file.
func inFile(to string) bool { return strings.HasSuffix(to, ".tar") }

func take(ctx context.Context, cfg Config, store copier) (m Manifest, err error) {
	s, err := openStage(cfg.To + partial)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := store.Backup(ctx, s.path(logName), cfg.Progress); err != nil {
		return m, err
	}
	if err := copyRefusals(ctx, filepath.Join(cfg.Dir, refusalsName), s.path(refusalsName)); err != nil {
		return m, err
	}
	m = Manifest{Format: format, MadeAt: cfg.Now().UTC(), Version: cfg.Version, Verified: !cfg.Unverified}
	if m.Head, err = s.prove(ctx, m.Verified, cfg.Progress); err != nil {
		return m, err
	}
	if m.Files, err = s.sums(ctx, cfg.Progress); err != nil {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	if err := s.write(manifestName, append(text, '\n')); err != nil {
		return m, err
	}
	if err := s.remove(modelsName); err != nil {
		return m, err
	}
	if inFile(cfg.To) {
		return m, s.pack(ctx, cfg.To, cfg.Progress)
	}
	return m, s.become(cfg.To)
}

// failed puts an error in words for whoever asked. Ours are already.
func failed(ctx context.Context, doing string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if full(err) {
		return fault.New(fault.NotAllowed, "disk_full", "%s: there is not enough room; nothing is left of it there: %v", doing, err)
	}
	return fault.New(fault.Invalid, "cannot_write", "%s: %v", doing, err)
}
