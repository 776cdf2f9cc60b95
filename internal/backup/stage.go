package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/gofrs/flock"

	"github.com/stockledger/stockledger/internal/fault"
)

// partial ends the name of a directory in which something is being made.
const partial = ".partial"

// packedName is what a tar file is called in there, until it is whole.
const packedName = "backup.tar"

// A stage is a directory in which a backup, or what is restored from one, is made.
// It is locked while somebody works in it. One that a dead process has left is
// emptied and used again, so that they do not pile up.
type stage struct {
	dir  string
	lock *flock.Flock
	kept bool // it has got the name it was made for
}

// openStage makes the directory, for its owner only. One that is there already and
// has something else in it than a stage is somebody's, and left as it is.
func openStage(dir string) (_ *stage, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if info, err := os.Lstat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, notOurs(dir, "which is no directory")
	}
	s := &stage{dir: dir, lock: flock.New(dir, flock.SetFlag(os.O_RDONLY))}
	held, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if !held {
		return nil, fault.New(fault.Conflict, "in_use", "somebody else works in %s; wait until that is done", dir).With("path", dir)
	}
	if err := s.empty(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

// empty removes what a dead process has left, unless it is not all of that.
func (s *stage) empty() error {
	left, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range left {
		if !staged.MatchString(entry.Name()) {
			return notOurs(s.dir, "and in it "+entry.Name())
		}
	}
	for _, entry := range left {
		err = errors.Join(err, s.remove(entry.Name()))
	}
	return err
}

// staged are the names of what is in a stage, with what SQLite and the lock of a log
// put beside their files.
var staged = regexp.MustCompile(`^(` + regexp.QuoteMeta(logName) + `|` + regexp.QuoteMeta(refusalsName) + `)(-[A-Za-z0-9]+|\.lock)?$|^(` +
	regexp.QuoteMeta(manifestName) + `|` + regexp.QuoteMeta(packedName) + `|` + modelsName + `)$`)

// notOurs refuses to work in a place where something of somebody else is.
func notOurs(dir, what string) error {
	return fault.New(fault.Conflict, "not_empty",
		"there is %s already, %s, which no backup has left there; move it away, or choose another name", dir, what).With("path", dir)
}

// close removes the directory with what is in it, unless it was kept.
func (s *stage) close() error {
	var err error
	if !s.kept {
		err = os.RemoveAll(s.dir)
	}
	return errors.Join(err, s.lock.Close())
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) remove(name string) error { return os.RemoveAll(s.path(name)) }

// create makes a file that only its owner may read.
func (s *stage) create(name string) (*os.File, error) {
	return os.OpenFile(s.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// write makes a file of text that is on the disk.
func (s *stage) write(name string, text []byte) error {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// sums are the files that were copied, with what is in them.
func (s *stage) sums(ctx context.Context, tell Progress) (files []File, err error) {
	for _, name := range []string{logName, refusalsName} {
		f, err := os.Open(s.path(name))
		if errors.Is(err, fs.ErrNotExist) && name == refusalsName {
			continue
		}
		if err != nil {
			return nil, err
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		sum := newSummed(ctx, f, "check "+name, size, tell)
		if err == nil {
			_, err = io.Copy(io.Discard, sum)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		files = append(files, File{name, sum.bytes, sum.text()})
	}
	return files, nil
}

// summed is a reader that counts and sums what is read, until ctx ends.
type summed struct {
	ctx   context.Context //nolint:containedctx // io.Reader has none
	r     io.Reader
	hash  hash.Hash
	bytes int64
	tell  func(done int64)
}

func newSummed(ctx context.Context, r io.Reader, doing string, size int64, tell Progress) *summed {
	return &summed{ctx: ctx, r: r, hash: sha256.New(), tell: func(done int64) {
		tell(doing, uint64(done), uint64(size)) //nolint:gosec // G115: sizes of files
	}}
}

// Read implements io.Reader.
func (s *summed) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(b)
	s.hash.Write(b[:n])
	s.bytes += int64(n)
	s.tell(s.bytes)
	return n, err
}

func (s *summed) text() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// become gives the directory the name it was made for.
func (s *stage) become(name string) error {
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if err := os.Rename(s.dir, name); err != nil {
		return err
	}
	s.kept = true
	return syncDir(filepath.Dir(name))
}

// pack makes one file of all, the manifest first.
func (s *stage) pack(ctx context.Context, name string, tell Progress) error {
	f, err := s.create(packedName)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(f)
	for _, part := range []string{manifestName, logName, refusalsName} {
		if err == nil {
			err = s.packOne(ctx, archive, part, tell)
		}
	}
	if err = errors.Join(err, archive.Close(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := mayMake(name); err != nil { // that was long ago
		return err
	}
	if err := os.Rename(s.path(packedName), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func (s *stage) packOne(ctx context.Context, archive *tar.Writer, name string, tell Progress) (err error) {
	f, err := os.Open(s.path(name))
	if errors.Is(err, fs.ErrNotExist) && name == refusalsName {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime(), Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, newSummed(ctx, f, "pack "+name, info.Size(), tell))
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // G304: the path is the operator's
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
