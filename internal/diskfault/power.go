package diskfault

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// sector is how many bytes a disk writes wholly or not at all.
const sector = 512

// memory follows what of the files of a disk would survive a power cut. It is
// stricter than most file systems: a name is durable once its directory is synced,
// which SQLite does with the first sync of a write-ahead log or journal it has opened; what
// was written before a sync that failed is not made durable by the next one, as the
// operating system may have dropped it meanwhile.
//
// A nil memory follows nothing.
type memory struct {
	mu      sync.Mutex
	seen    map[string]*content // as programs find them now
	durable map[string]*content // as they are found after a power cut
}

// content is a file without its name.
type content struct {
	image   []byte   // durable, before the changes
	changes []change // the oldest first
}

// change is a write, or a truncation.
type change struct {
	offset   int64  // of a write; the new length
	data     []byte // of a write
	truncate bool
	state    state
}

// state is what is known of a change.
type state uint8

const (
	pending state = iota // the next sync makes it durable
	suspect              // a sync failed: it may be there or not, for ever
	durable
)

func newMemory() *memory {
	return &memory{seen: make(map[string]*content), durable: make(map[string]*content)}
}

// look takes in a file that is there before it is opened for the first time. All
// of it is durable. The name of an empty database is not, as it may just have been
// made by who opens it.
func (m *memory) look(path string, database bool) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[path] != nil {
		return nil
	}
	image, err := os.ReadFile(path) //nolint:gosec // G304: SQLite names it
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &content{image: image}
	m.seen[path] = c
	if len(image) > 0 || !database {
		m.durable[path] = c
	}
	return nil
}

// open returns the content of a file that has just been opened.
func (m *memory) open(path string) *content {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.seen[path]
	if c == nil {
		c = new(content)
		m.seen[path] = c
	}
	return c
}

func (m *memory) wrote(c *content, offset int64, data []byte) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.changes = append(c.changes, change{offset: offset, data: slices.Clone(data)})
}

func (m *memory) truncated(c *content, size int64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.changes = append(c.changes, change{offset: size, truncate: true})
}

// synced makes durable what has been written by now, and with the directory the names
// of all files.
func (m *memory) synced(c *content, directory bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range c.changes {
		if c.changes[i].state == pending {
			c.changes[i].state = durable
		}
	}
	for len(c.changes) > 0 && c.changes[0].state == durable {
		c.image = c.changes[0].apply(c.image)
		c.changes = c.changes[1:]
	}
	if directory {
		m.durable = maps.Clone(m.seen)
	}
}

// syncFailed makes what was to be synced suspect.
func (m *memory) syncFailed(c *content) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range c.changes {
		if c.changes[i].state == pending {
			c.changes[i].state = suspect
		}
	}
}

func (m *memory) removed(path string, syncDirectory bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, path)
	if syncDirectory {
		m.durable = maps.Clone(m.seen)
	}
}

// apply returns image after the change.
func (c change) apply(image []byte) []byte {
	if c.truncate {
		return resize(image, c.offset)[:c.offset]
	}
	image = resize(image, c.offset+int64(len(c.data)))
	copy(image[c.offset:], c.data)
	return image
}

// resize returns image with at least size bytes, zeros behind its end.
func resize(image []byte, size int64) []byte {
	if more := size - int64(len(image)); more > 0 {
		image = append(image, make([]byte, more)...)
	}
	return image
}

// PowerCut writes to the directory into what the disk would hold of the databases in
// the directory from, and below, if its power failed now: each file as it was last
// synced, and of what was written since whatever random chooses: nothing, all, or
// some, in sectors of 512 bytes. A file that was made or deleted lately is there or
// not.
//
// The files that are open are not touched, and may be written to meanwhile. Random
// is used by this call alone while it lasts. It fails if the disk was not made by
// [NewVolatile].
func (d *Disk) PowerCut(from, into string, random *rand.Rand) error {
	if d.memory == nil {
		return fmt.Errorf("cut the power of disk %s: it does not remember what is synced", d.name)
	}
	if err := d.memory.cut(from, into, random); err != nil {
		return fmt.Errorf("cut the power of disk %s: %w", d.name, err)
	}
	return nil
}

func (m *memory) cut(from, into string, random *rand.Rand) error {
	from, err := filepath.EvalSymlinks(from) // as SQLite has it
	if err != nil {
		return err
	}
	for path, image := range m.left(random) {
		name, err := filepath.Rel(from, path)
		if err != nil || !filepath.IsLocal(name) {
			continue
		}
		to := filepath.Join(into, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(to, image, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// left is what a power cut leaves, by path.
func (m *memory) left(random *rand.Rand) map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Concat(slices.Collect(maps.Keys(m.seen)), slices.Collect(maps.Keys(m.durable)))
	slices.Sort(names) // a seed chooses the same again
	luck := mood(random.IntN(int(moods)))
	left := make(map[string][]byte)
	for _, name := range slices.Compact(names) {
		c := m.durable[name]
		if now := m.seen[name]; now != c && luck.keeps(random) {
			c = now
		}
		if c != nil {
			left[name] = c.left(luck, random)
		}
	}
	return left
}

// mood is how much of what is not synced a power cut leaves. Chance alone would
// hardly ever take or leave all of many writes.
type mood int

const (
	nothing mood = iota
	everything
	some
	moods
)

func (m mood) keeps(random *rand.Rand) bool {
	return m == everything || m == some && random.IntN(2) == 0
}

// left is what is left of the file.
func (c *content) left(luck mood, random *rand.Rand) []byte {
	image := slices.Clone(c.image)
	for _, change := range c.changes {
		switch {
		case change.state == durable || luck.keeps(random):
			image = change.apply(image)
		case luck == some && !change.truncate:
			image = change.tear(image, random)
		}
	}
	return image
}

// tear is apply of some sectors of a write. The length of the file may tell of those
// that are lost.
func (c change) tear(image []byte, random *rand.Rand) []byte {
	if random.IntN(4) == 0 {
		image = resize(image, c.offset+int64(len(c.data)))
	}
	for from := int64(0); from < int64(len(c.data)); {
		to := min(int64(len(c.data)), from+sector-(c.offset+from)%sector)
		if random.IntN(2) == 0 {
			image = change{offset: c.offset + from, data: c.data[from:to]}.apply(image)
		}
		from = to
	}
	return image
}
