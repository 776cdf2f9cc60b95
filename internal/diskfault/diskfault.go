// Package diskfault makes disks fail under SQLite on purpose: a write that finds no
// room, a sync that returns an error, a power cut that takes with it what was not
// synced. It is for tests, and for the command that shows what a ledger survives.
//
// A [Disk] is a virtual file system of SQLite that lies over the operating system's.
// Files are ordinary files, whatever reads them beside SQLite finds them as they are.
// Only the files that a database is made of go through it: the database, its
// write-ahead log or its journal. The shared memory of a write-ahead log (-shm) is no
// part of what a disk keeps, and temporary files have no names.
package diskfault

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// Kind is what SQLite is about to do to a file, or has done.
type Kind uint8

const (
	// Write is asked before bytes are written. An error keeps them from it.
	Write Kind = iota + 1
	// Truncate is asked before a file is cut to the length in Offset.
	Truncate
	// Sync is asked before a file is synced: everything written to it is with the
	// operating system, and lost in a power cut.
	Sync
	// Synced is told after a file has been synced, when nobody knows it yet. An error
	// makes the sync fail although it did its work.
	Synced
	// Delete is asked before a file is deleted.
	Delete
)

func (k Kind) String() string {
	return [...]string{Write: "write", Truncate: "truncate", Sync: "sync", Synced: "synced", Delete: "delete"}[k]
}

// Op is one thing done to one file.
type Op struct {
	Kind   Kind
	Path   string // absolute
	Offset int64  // of a write, in bytes; the new length of a truncate
	Data   []byte // of a write; not to be changed, and gone after the plan's answer
}

// A Disk is a SQLite virtual file system over the operating system's that does what
// its plan says. Its methods may be called from many goroutines at once, and its
// files may be open on many connections.
type Disk struct {
	name   string
	plan   func(Op) error
	memory *memory // nil: what is synced is not followed

	beneath uintptr  // the operating system's sqlite3_vfs
	vfs     uintptr  // ours
	hooks   hooks    // referred to from the tables, where no collector looks
	files   sync.Map // open files: *file by the address of their sqlite3_file

	syncing sync.Mutex // held by one sync at a time, so that none is between a failure and its telling

	mu     sync.Mutex
	tables map[uintptr]uintptr // sqlite3_io_methods of ours, by those they replace
	closed bool
}

// New registers a virtual file system with SQLite under that name, which must be
// free in this process. Plan is asked before everything that is done to a file, and
// on many goroutines at once; nil is a disk that never fails. It may block, and it
// may end the process.
//
// What plan returns is what the operating system is said to have answered: SQLite
// sees SQLITE_FULL for syscall.ENOSPC and [Short], and the SQLITE_IOERR of the kind
// of operation for everything else, such as syscall.EIO.
func New(name string, plan func(Op) error) (*Disk, error) {
	return register(&Disk{name: name, plan: plan})
}

// NewVolatile is New for a disk whose power can be cut, see [Disk.PowerCut]. It
// keeps in memory the content of every file that is opened. A sync makes durable what
// is there, and does not trouble the operating system: what a test leaves behind need
// not outlive the machine, and syncs are what tests of this kind would wait for.
func NewVolatile(name string, plan func(Op) error) (*Disk, error) {
	return register(&Disk{name: name, plan: plan, memory: newMemory()})
}

// Name is what the file system is registered as.
func (d *Disk) Name() string { return d.name }

// Short is the answer to a write of which n bytes got there before the disk was full.
func Short(n int) error { return shortWrite(n) }

type shortWrite int

func (n shortWrite) Error() string { return fmt.Sprintf("short write of %d bytes", int(n)) }

func (d *Disk) ask(op Op) error {
	if d.plan == nil {
		return nil
	}
	return d.plan(op)
}

// full reports whether err says that there is no room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// code is err as SQLite has it, failed being what this kind of operation returns
// when it fails otherwise.
func code(err error, failed int32) int32 {
	if full(err) {
		return sqlite.SQLITE_FULL
	}
	return failed
}

// file is an open file.
type file struct {
	path      string
	beneath   *sqlite.Tsqlite3_io_methods // the operating system's
	content   *content                    // nil: not followed
	directory atomic.Bool                 // the next sync is that of its directory, too
	owed      bool                        // the next sync is told of one that failed elsewhere
}

func (d *Disk) file(p uintptr) *file {
	f, _ := d.files.Load(p)
	return f.(*file)
}

// open is xOpen.
func (d *Disk) open(tls *libc.TLS, _, name, p uintptr, flags int32, out uintptr) int32 {
	xOpen := function[openFunc](at[sqlite.Tsqlite3_vfs](d.beneath).FxOpen)
	if name == 0 {
		return xOpen(tls, d.beneath, name, p, flags, out)
	}
	path := libc.GoString(name)
	if err := d.memory.look(path, flags&sqlite.SQLITE_OPEN_MAIN_DB != 0); err != nil {
		return sqlite.SQLITE_CANTOPEN
	}
	if rc := xOpen(tls, d.beneath, name, p, flags, out); rc != sqlite.SQLITE_OK {
		return rc
	}
	methods := &at[sqlite.Tsqlite3_file](p).FpMethods
	f := &file{
		path:    path,
		beneath: at[sqlite.Tsqlite3_io_methods](*methods),
		content: d.memory.open(path),
	}
	const journal = sqlite.SQLITE_OPEN_WAL | sqlite.SQLITE_OPEN_MAIN_JOURNAL
	f.directory.Store(flags&journal != 0 && flags&sqlite.SQLITE_OPEN_CREATE != 0)
	d.files.Store(p, f)
	*methods = d.table(*methods)
	return sqlite.SQLITE_OK
}

// close is xClose. The address of the file is used again afterwards.
func (d *Disk) close(tls *libc.TLS, p uintptr) int32 {
	f := d.file(p)
	d.files.Delete(p)
	return function[closeFunc](f.beneath.FxClose)(tls, p)
}

// write is xWrite.
func (d *Disk) write(tls *libc.TLS, p, data uintptr, n int32, offset int64) int32 {
	f := d.file(p)
	bytes := memoryAt(data, int(n))
	err := d.ask(Op{Kind: Write, Path: f.path, Offset: offset, Data: bytes})
	short, isShort := errors.AsType[shortWrite](err)
	switch {
	case isShort:
		n = min(n, int32(short)) //nolint:gosec // G115: of a page, by the minimum
	case err != nil:
		return code(err, sqlite.SQLITE_IOERR_WRITE)
	}
	if n > 0 {
		if rc := function[writeFunc](f.beneath.FxWrite)(tls, p, data, n, offset); rc != sqlite.SQLITE_OK {
			return rc
		}
		d.memory.wrote(f.content, offset, bytes[:n])
	}
	if isShort {
		return sqlite.SQLITE_FULL
	}
	return sqlite.SQLITE_OK
}

// truncate is xTruncate.
func (d *Disk) truncate(tls *libc.TLS, p uintptr, size int64) int32 {
	f := d.file(p)
	if err := d.ask(Op{Kind: Truncate, Path: f.path, Offset: size}); err != nil {
		return code(err, sqlite.SQLITE_IOERR_TRUNCATE)
	}
	rc := function[truncateFunc](f.beneath.FxTruncate)(tls, p, size)
	if rc == sqlite.SQLITE_OK {
		d.memory.truncated(f.content, size)
	}
	return rc
}

// sync is xSync. As Linux does, it tells everybody who has the file open once of a
// sync that failed, whoever asked for it: what it was to write may be anybody's.
func (d *Disk) sync(tls *libc.TLS, p uintptr, flags int32) int32 {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	f := d.file(p)
	if f.owed {
		f.owed = false
		return sqlite.SQLITE_IOERR_FSYNC
	}
	if err := d.ask(Op{Kind: Sync, Path: f.path}); err != nil {
		d.memory.syncFailed(f.content)
		d.files.Range(func(_, other any) bool {
			if o := other.(*file); o != f && o.path == f.path {
				o.owed = true
			}
			return true
		})
		return sqlite.SQLITE_IOERR_FSYNC
	}
	if d.memory != nil {
		d.memory.synced(f.content, f.directory.Swap(false))
	} else if rc := function[syncFunc](f.beneath.FxSync)(tls, p, flags); rc != sqlite.SQLITE_OK {
		return rc
	}
	if err := d.ask(Op{Kind: Synced, Path: f.path}); err != nil {
		return sqlite.SQLITE_IOERR_FSYNC
	}
	return sqlite.SQLITE_OK
}

// remove is xDelete.
func (d *Disk) remove(tls *libc.TLS, _, name uintptr, syncDirectory int32) int32 {
	path := libc.GoString(name)
	if err := d.ask(Op{Kind: Delete, Path: path}); err != nil {
		return sqlite.SQLITE_IOERR_DELETE
	}
	rc := function[deleteFunc](at[sqlite.Tsqlite3_vfs](d.beneath).FxDelete)(tls, d.beneath, name, syncDirectory)
	if rc == sqlite.SQLITE_OK {
		d.memory.removed(path, syncDirectory != 0)
	}
	return rc
}
