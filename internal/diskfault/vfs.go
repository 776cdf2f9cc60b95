package diskfault

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite "modernc.org/sqlite/lib"
)

// What follows speaks to SQLite, which is C translated to Go: its structures lie in
// memory that the collector does not know, and refer to each other, and to functions,
// by address. Addresses become pointers through a variable that holds them: the plain
// conversion is only right for addresses of Go's own memory, and vet says so.

// at is the T at an address of C.
func at[T any](address uintptr) *T {
	return *(**T)(unsafe.Pointer(&address)) //nolint:gosec // G103: SQLite has no other interface
}

// function is the function at an address of C.
func function[F any](address uintptr) F {
	return *(*F)(unsafe.Pointer(&address)) //nolint:gosec // G103: SQLite has no other interface
}

// address is f for C. F must be kept from the collector as long as C may call it.
func address[F any](f F) uintptr {
	return *(*uintptr)(unsafe.Pointer(&f)) //nolint:gosec // G103: SQLite has no other interface
}

// memoryAt is so many bytes of C.
func memoryAt(address uintptr, n int) []byte {
	return unsafe.Slice(at[byte](address), n) //nolint:gosec // G103: SQLite has no other interface
}

// The methods of SQLite's that are replaced.
type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, syncDirectory int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
	writeFunc    = func(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc     = func(tls *libc.TLS, file uintptr, flags int32) int32
)

// hooks holds what SQLite calls.
type hooks struct {
	open     openFunc
	delete   deleteFunc
	close    closeFunc
	write    writeFunc
	truncate truncateFunc
	sync     syncFunc
}

// registered keeps the disks from the collector, which does not see SQLite's own
// list of them.
var registered sync.Map // *Disk by name

// errMemory says that C has no more memory.
var errMemory = errors.New("out of memory")

func register(d *Disk) (*Disk, error) {
	if _, taken := registered.LoadOrStore(d.name, d); taken {
		return nil, fmt.Errorf("register disk %s: there is one of that name", d.name)
	}
	if err := d.register(); err != nil {
		registered.Delete(d.name)
		return nil, fmt.Errorf("register disk %s: %w", d.name, err)
	}
	return d, nil
}

func (d *Disk) register() error {
	d.tables = make(map[uintptr]uintptr)
	d.hooks = hooks{open: d.open, delete: d.remove, close: d.close, write: d.write, truncate: d.truncate, sync: d.sync}
	tls := libc.NewTLS()
	defer tls.Close()
	if d.beneath = sqlite.Xsqlite3_vfs_find(tls, 0); d.beneath == 0 {
		return errors.New("SQLite has no file system here")
	}
	name, err := libc.CString(d.name)
	if err != nil {
		return err
	}
	defer func() {
		if d.vfs == 0 {
			libc.Xfree(tls, name)
		}
	}()
	if sqlite.Xsqlite3_vfs_find(tls, name) != 0 {
		return errors.New("SQLite has a file system of that name")
	}
	ours := *at[sqlite.Tsqlite3_vfs](d.beneath)
	ours.FzName = name
	ours.FpNext = 0
	ours.FxOpen = address(d.hooks.open)
	ours.FxDelete = address(d.hooks.delete)
	vfs := allocate(tls, ours)
	if vfs == 0 {
		return errMemory
	}
	if rc := sqlite.Xsqlite3_vfs_register(tls, vfs, 0); rc != sqlite.SQLITE_OK {
		libc.Xfree(tls, vfs)
		return fmt.Errorf("SQLite answers %d", rc)
	}
	d.vfs = vfs
	return nil
}

// MakeDefault has SQLite open on this disk, until Close, every database of the process
// for which no file system is named. So what is not told of the disk meets it, too.
func (d *Disk) MakeDefault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	tls := libc.NewTLS()
	defer tls.Close()
	if rc := sqlite.Xsqlite3_vfs_register(tls, d.vfs, 1); rc != sqlite.SQLITE_OK {
		return fmt.Errorf("make disk %s the default: SQLite answers %d", d.name, rc)
	}
	return nil
}

// allocate copies v to memory of C, and returns 0 when there is none.
func allocate[T any](tls *libc.TLS, v T) uintptr {
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(v)))
	if p != 0 {
		*at[T](p) = v
	}
	return p
}

// table is a table of the methods of a file with ours in place, by the address of
// the table that it replaces.
func (d *Disk) table(beneath uintptr) uintptr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, made := d.tables[beneath]; made {
		return p
	}
	ours := *at[sqlite.Tsqlite3_io_methods](beneath)
	ours.FxClose = address(d.hooks.close)
	ours.FxWrite = address(d.hooks.write)
	ours.FxTruncate = address(d.hooks.truncate)
	ours.FxSync = address(d.hooks.sync)
	tls := libc.NewTLS()
	defer tls.Close()
	p := allocate(tls, ours)
	if p == 0 {
		panic("diskfault: " + errMemory.Error())
	}
	d.tables[beneath] = p
	return p
}

// Close removes the file system from SQLite. It fails while a file is open through
// it, and must not be called while one is being opened. Closing again does nothing.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	tls := libc.NewTLS()
	defer tls.Close()
	sqlite.Xsqlite3_vfs_unregister(tls, d.vfs) // nothing more is opened on it
	var open *file
	d.files.Range(func(_, f any) bool { open = f.(*file); return false })
	if open != nil {
		return fmt.Errorf("close disk %s: %s is open", d.name, open.path)
	}
	d.closed = true
	libc.Xfree(tls, at[sqlite.Tsqlite3_vfs](d.vfs).FzName)
	libc.Xfree(tls, d.vfs)
	for _, p := range d.tables {
		libc.Xfree(tls, p)
	}
	registered.Delete(d.name)
	return nil
}
