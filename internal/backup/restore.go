package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/stockledger/stockledger/internal/fault"
)

// Restoring is the directory in a data directory in which it is restored. It is there
// without a log beside it as long as that is under way, or when it was interrupted.
const Restoring = "restore" + partial

// Restore makes a ledger of a backup, in dir, which must be absent or empty. The
// ledger is the one that was backed up, with its log id: the two must never both
// go on. Its read models are those built to verify it.
//
// Before anything gets its name in dir the sums are compared, the log is read
// against its head, and all of it is verified. When Restore fails, dir is as it was.
func Restore(ctx context.Context, from, dir string, progress Progress) (Manifest, error) {
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}
	made, err := mayFill(dir)
	if err != nil {
		return Manifest{}, err
	}
	m, err := restore(ctx, from, dir, progress)
	if err != nil {
		if made {
			err = errors.Join(err, os.Remove(dir))
		}
		return Manifest{}, failed(ctx, "restore "+from, err)
	}
	return m, nil
}

// mayFill refuses a directory in which there is something, and makes one that is
// not there.
func mayFill(dir string) (made bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(dir, 0o700)
		made = err == nil
	case err == nil:
		for _, e := range entries {
			if e.Name() != Restoring && e.Name() != "lost+found" { // which a new file system has
				return false, fault.New(fault.Conflict, "not_empty",
					"there is something in %s already, such as %s; restore into a directory that is empty, or not there yet", dir, e.Name()).
					With("dir", dir)
			}
		}
	}
	if err != nil {
		return false, fault.New(fault.Invalid, "cannot_write", "restore into %s: %v", dir, err).With("dir", dir)
	}
	return made, nil
}

func restore(ctx context.Context, from, dir string, tell Progress) (m Manifest, err error) {
	s, err := openStage(filepath.Join(dir, Restoring))
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if m, err = s.fetch(ctx, from, tell); err != nil {
		return m, err
	}
	head, err := s.prove(ctx, true, tell)
	if err != nil {
		return m, err
	}
	if err := sameLog(head, m.Head); err != nil {
		return m, err
	}
	if _, err := mayFill(dir); err != nil { // a server may have been started there meanwhile
		return m, err
	}
	return m, s.release(dir)
}

// release moves everything to where a ledger has it. The log comes first: with it
// alone it is a ledger, and without it another one would be begun there.
func (s *stage) release(dir string) error {
	for _, name := range []string{logName, refusalsName, modelsName} {
		if err := os.Rename(s.path(name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// fetch copies the files of a backup into the stage, and compares them with the
// manifest.
func (s *stage) fetch(ctx context.Context, from string, tell Progress) (m Manifest, err error) {
	var manifest []byte
	found := make(map[string]File)
	err = each(from, func(name string, size int64, r io.Reader) error {
		if name == manifestName {
			manifest, err = io.ReadAll(io.LimitReader(r, maxManifest))
			return err
		}
		sum := newSummed(ctx, r, "copy "+name, size, tell)
		f, err := s.create(name)
		if errors.Is(err, fs.ErrExist) {
			return damaged("it has %s twice", name)
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(f, sum)
		found[name] = File{name, sum.bytes, sum.text()}
		return errors.Join(err, f.Sync(), f.Close())
	})
	if err != nil {
		return m, err
	}
	if m, err = readManifest(from, manifest); err != nil {
		return m, err
	}
	return m, m.compare(found)
}

func readManifest(from string, text []byte) (m Manifest, err error) {
	if text == nil {
		return m, fault.New(fault.Invalid, "no_backup", "%s is no backup: it has no %s, which is written last", from, manifestName)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&m); err != nil {
		return m, damaged("its %s cannot be read: %v", manifestName, err)
	}
	if m.Format != format {
		return m, fault.New(fault.Invalid, "unknown_format",
			"the backup is of format %d, and this version of Stockledger reads format %d; restore it with version %s", m.Format, format, m.Version)
	}
	return m, nil
}

// compare refuses files that are not those of the manifest.
func (m Manifest) compare(found map[string]File) error {
	if !m.lists(logName) {
		return damaged("its %s lists no %s", manifestName, logName)
	}
	for _, want := range m.Files {
		got, there := found[want.Name]
		switch {
		case !there:
			return damaged("%s is missing", want.Name)
		case got != want:
			return damaged("%s is not what was backed up: %d bytes with the sum %s, not %d with %s",
				want.Name, got.Bytes, got.SHA256, want.Bytes, want.SHA256)
		}
	}
	for name := range found {
		if !m.lists(name) {
			return damaged("%s is not in its %s", name, manifestName)
		}
	}
	return nil
}

// damaged is the refusal of a backup in which something is not as it was written.
func damaged(format string, args ...any) error {
	return fault.New(fault.Invalid, "backup_damaged", "the backup is damaged: "+format, args...)
}

// each gives the files of a backup to do, those by our names only.
func each(from string, do func(name string, size int64, r io.Reader) error) error {
	info, err := os.Stat(from)
	if err != nil {
		return fault.New(fault.NotFound, "not_found", "there is no backup at %s: %v", from, err).With("from", from)
	}
	if info.IsDir() {
		return eachInDir(from, do)
	}
	return eachInFile(from, do)
}

// ours are the names of the files that a backup has.
var ours = []string{manifestName, logName, refusalsName}

func eachInDir(from string, do func(string, int64, io.Reader) error) error {
	for _, name := range ours {
		f, err := os.Open(filepath.Join(from, name)) //nolint:gosec // G304: the path is the operator's
		if errors.Is(err, fs.ErrNotExist) {
			if name == manifestName {
				break // and so no need to copy anything
			}
			continue
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			err = do(name, info.Size(), f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func eachInFile(from string, do func(string, int64, io.Reader) error) (err error) {
	f, err := os.Open(from) //nolint:gosec // G304: the path is the operator's
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	archive := tar.NewReader(f)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unreadable(from, err)
		}
		name := path.Clean(header.Name)
		if header.Typeflag != tar.TypeReg || !slices.Contains(ours, name) {
			continue
		}
		if err := do(name, header.Size, archive); err != nil {
			return unreadable(from, err)
		}
	}
}

// unreadable tells a file that is no tar, or not all of one, from what else fails.
func unreadable(from string, err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader):
		return fault.New(fault.Invalid, "no_backup", "%s is no backup: it is neither a directory nor a tar file", from)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("%s is cut off", from)
	}
	return fmt.Errorf("read %s: %w", from, err)
}
