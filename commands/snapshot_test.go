package commands_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/internal/snapshots"
)

// counting is a store that counts the events that are read from streams.
type counting struct {
	events.Store
	read  atomic.Int64
	limit atomic.Int64 // not 0: stop is called once so many were read
	stop  context.CancelFunc
}

func (c *counting) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for r, err := range c.Store.Read(ctx, stream, after) {
			if n := c.read.Add(1); n == c.limit.Load() {
				c.stop()
			}
			if ctx.Err() != nil {
				yield(events.Recorded{}, ctx.Err())
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// readBy is how many events are read while do is done.
func (c *counting) readBy(do func()) int {
	before := c.read.Load()
	do()
	return int(c.read.Load() - before)
}

// A long life: an item that is adjusted, and of which so much is reserved and
// released that it forgets the oldest, n events long. It is at Paris, with a stock
// of n/4.
func longLife(t testing.TB, store events.Store, item string, n int) {
	t.Helper()
	var it domain.Item
	var prev events.Hash
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	commits := make([]events.Commit, 0, 1000)
	take := func(facts []events.Fact, err error) {
		require.NoError(t, err)
		for _, fact := range facts {
			at = at.Add(time.Millisecond)
			r, err := events.Record(events.ItemStream(item), it.Version, prev, fact, &events.Meta{
				Command: "adjust-inventory-levels", CommandID: fmt.Sprintf("%s-%d", item, it.Version), Recorded: at,
			})
			require.NoError(t, err)
			it.Apply(fact, domain.Stamp{Version: r.Version, At: at})
			prev = r.Hash
			commits = append(commits, events.Commit{r})
		}
		if len(commits) >= 1000 || int(it.Version) >= n {
			_, err := store.Append(context.WithoutCancel(t.Context()), commits...)
			require.NoError(t, err)
			commits = commits[:0]
		}
	}
	level := events.LevelCreated{ItemID: item, LevelID: "ilev_" + item, LocationID: "paris", Stocked: events.Units(0)}
	take([]events.Fact{events.ItemCreated{ItemID: item}, level}, nil)
	take(it.Adjust(item, "paris", events.Units(1), "", nil))
	for i := 3; i < n; i++ {
		switch id := fmt.Sprintf("%s-r%d", item, i/4); i % 4 {
		case 0:
			take(it.Adjust(item, "paris", events.Units(1), "", nil))
		case 1:
			take(it.Reserve(item, domain.NewReservation{ID: id, LocationID: "paris", Quantity: events.Units(1)}, nil))
		case 2:
			take(it.Release(item, id))
		default:
			take(it.UpdateLevel(item, "paris", domain.LevelChanges{Incoming: new(events.Units(int64(i)))}, "", nil))
		}
	}
	require.Equal(t, n, int(it.Version))
	require.Equal(t, fmt.Sprint(n/4), first(it.Totals()).String())
}

func first[A, B any](a A, _ B) A { return a }

// openFile opens the snapshots of a store in dir.
func openFile(t testing.TB, dir string, store events.Store) *snapshots.File {
	t.Helper()
	f := snapshots.Open(t.Context(), snapshots.Config{
		Path: filepath.Join(dir, "snapshots.db"), Log: store.LogID(), Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// withSnapshots is an engine with snapshots in dir, which is closed with done.
func withSnapshots(t testing.TB, dir string, store events.Store, change ...func(*commands.Config)) (s *shop, done func()) {
	t.Helper()
	f := openFile(t, dir, store)
	s = openShop(t, store, append([]func(*commands.Config){func(c *commands.Config) {
		c.Snapshots, c.Index = f, upToDate{store: store}
	}}, change...)...)
	return s, func() {
		require.NoError(t, s.Close())
		require.NoError(t, f.Close())
	}
}

func TestALongStreamIsReadOnce(t *testing.T) {
	n := 200_000
	if testing.Short() || race.On {
		n = 20_000
	}
	store := &counting{Store: memstore.New()}
	longLife(t, store, "cup", n)
	dir := t.TempDir()

	s, done := withSnapshots(t, dir, store)
	read := store.readBy(func() { require.Equal(t, fmt.Sprint(n/4), s.level("cup", "paris").StockedQuantity.String()) })
	require.GreaterOrEqual(t, read, n, "there is no snapshot yet")
	s.do("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	done()

	s, done = withSnapshots(t, dir, store)
	read = store.readBy(func() { require.Equal(t, fmt.Sprint(n/4+1), s.level("cup", "paris").StockedQuantity.String()) })
	require.LessOrEqual(t, read, 2, "the event of the snapshot, and one since")
	done()

	require.NoError(t, removeAll(dir))
	s, done = withSnapshots(t, dir, store)
	defer done()
	read = store.readBy(func() { require.Equal(t, fmt.Sprint(n/4+1), s.level("cup", "paris").StockedQuantity.String()) })
	require.GreaterOrEqual(t, read, n, "without its file a stream is only slower")
}

func removeAll(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, "snapshots.db*"))
	for _, name := range found {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// Who waits only so long for a long stream to be loaded gets it in the end.
func TestALoadThatIsGivenUpIsNotInVain(t *testing.T) {
	const n = 20_000
	store := &counting{Store: memstore.New()}
	longLife(t, store, "cup", n)
	f := openFile(t, t.TempDir(), store)
	s := openShop(t, store, func(c *commands.Config) { c.Snapshots, c.Index = f, upToDate{store: store} })
	s.SnapshotEvery(100, 10) // and every 5,000 while it loads
	command, err := commands.Decode("adjust-inventory-levels",
		[]byte(`[{"inventory_item_id":"cup","location_id":"paris","adjustment":0}]`))
	require.NoError(t, err)
	tries := 1
	for ; ; tries++ {
		var ctx context.Context
		ctx, store.stop = context.WithCancel(t.Context())
		store.limit.Store(store.read.Load() + 7_000)
		_, err := s.Do(ctx, commands.Envelope{}, command)
		store.stop()
		if err == nil {
			break
		}
		require.ErrorContains(t, err, "in time")
		require.Less(t, tries, 10)
		soon(t, func() bool {
			kept, _, err := f.Snapshot(t.Context(), "item-cup")
			require.NoError(t, err)
			return kept.Version == uint64(5_000*tries)
		}, "it is kept")
	}
	require.Equal(t, 4, tries, "5,000 events at a time, and then the rest")
}

func TestASnapshotThatDoesNotHoldIsNotUsed(t *testing.T) {
	const n = 5000
	store := &counting{Store: memstore.New()}
	longLife(t, store, "cup", n)
	longLife(t, store, "pot", n)
	dir := t.TempDir()
	s, done := withSnapshots(t, dir, store)
	s.level("cup", "paris")
	s.level("pot", "paris")
	done()
	f := openFile(t, dir, store)
	good, found, err := f.Snapshot(t.Context(), "item-cup")
	require.NoError(t, err)
	require.True(t, found)
	other, _, err := f.Snapshot(t.Context(), "item-pot")
	require.NoError(t, err)
	require.NoError(t, f.Close())

	for name, spoil := range map[string]func(*commands.Snapshot){
		"a flipped bit":     func(s *commands.Snapshot) { s.State[len(s.State)/2] ^= 1 },
		"cut short":         func(s *commands.Snapshot) { s.State = s.State[:len(s.State)-1] },
		"no state":          func(s *commands.Snapshot) { s.State = []byte{} },
		"another version":   func(s *commands.Snapshot) { s.Version-- },
		"another checksum":  func(s *commands.Snapshot) { s.Sum[0] ^= 1 },
		"another format":    func(s *commands.Snapshot) { s.Format++; s.Seal() },
		"another hash":      func(s *commands.Snapshot) { s.Hash[0] ^= 1; s.Seal() },
		"of another stream": func(s *commands.Snapshot) { *s = other; s.Stream = "item-cup" },
		"and sealed":        func(s *commands.Snapshot) { *s = other; s.Stream = "item-cup"; s.Seal() },
		"past the end":      func(s *commands.Snapshot) { s.Version += 10; s.Seal() },
		"far past the end":  func(s *commands.Snapshot) { s.Version = 1 << 62; s.Seal() },
		"version 0":         func(s *commands.Snapshot) { s.Version = 0; s.Seal() },
		"unreadable state":  func(s *commands.Snapshot) { s.State = []byte(`{"ID":1}`); s.Seal() },
		"a state its tail cannot follow": func(s *commands.Snapshot) {
			*s = olderThan(t, store, "cup", n-100)
			s.State = bytes.Replace(s.State, fmt.Appendf(nil, `"Stocked":%d`, (n-100)/4), []byte(`"Stocked":7`), 1)
			s.Seal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			bad.State = slices.Clone(good.State)
			spoil(&bad)
			f := openFile(t, dir, store)
			require.NoError(t, f.Keep(t.Context(), bad))
			require.NoError(t, f.Close())

			var told lockedBuffer
			s, done := withSnapshots(t, dir, store, func(c *commands.Config) { c.Logger = slog.New(slog.NewTextHandler(&told, nil)) })
			read := store.readBy(func() { require.Equal(t, fmt.Sprint(n/4), s.level("cup", "paris").StockedQuantity.String()) })
			require.GreaterOrEqual(t, read, n, "it is replayed in full")
			require.Equal(t, 1, strings.Count(told.String(), "\n"), told.String())
			require.Contains(t, told.String(), "item-cup")
			done()

			s, done = withSnapshots(t, dir, store)
			defer done()
			read = store.readBy(func() { s.level("cup", "paris") })
			require.Equal(t, 1, read, "a good one is in its place")
		})
	}
}

// olderThan is a snapshot of the first events of an item.
func olderThan(t *testing.T, store events.Store, item string, version uint64) commands.Snapshot {
	t.Helper()
	state, hash := stateAt(t, store, events.ItemStream(item), version)
	s := commands.Snapshot{Stream: events.ItemStream(item), Version: version, Hash: hash, Format: domain.StateFormat, State: state}
	s.Seal()
	return s
}

// stateAt is what the first events of a stream come to.
func stateAt(t testing.TB, store events.Store, stream string, version uint64) (state []byte, hash events.Hash) {
	t.Helper()
	kind, _, err := events.SplitStream(stream)
	require.NoError(t, err)
	a := map[string]interface {
		Apply(events.Fact, domain.Stamp)
		State() domain.State
	}{"item": new(domain.Item), "sku": new(domain.SKU), "variant": new(domain.Variant), "location": new(domain.Location)}[kind]
	for r, err := range store.Read(t.Context(), stream, 0) {
		require.NoError(t, err)
		r = events.Recorded{ // as it is on disk
			Position: r.Position, Stream: r.Stream, Version: r.Version, Type: r.Type, Data: r.Data, Meta: r.Meta, Prev: r.Prev, Hash: r.Hash,
		}
		fact, err := r.Fact()
		require.NoError(t, err)
		meta, err := r.Metadata()
		require.NoError(t, err)
		a.Apply(fact, domain.Stamp{Version: r.Version, At: meta.Recorded})
		if hash = r.Hash; r.Version == version {
			state, err = a.State().Encode()
			require.NoError(t, err)
			return state, hash
		}
	}
	t.Fatalf("%s has no version %d", stream, version)
	return nil, hash
}

// lockedBuffer is what a logger wrote.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// remembering notes all the snapshots that were ever kept.
type remembering struct {
	commands.Snapshots
	mu  sync.Mutex
	all []commands.Snapshot
}

func (k *remembering) Keep(ctx context.Context, s commands.Snapshot) error {
	k.mu.Lock()
	k.all = append(k.all, s)
	k.mu.Unlock()
	return k.Snapshots.Keep(ctx, s)
}

// Whatever is going on while snapshots are taken, and whatever fails, each of them
// is what the log says of its version, and what the engine made with them is what
// it would have made without.
func TestSnapshotsAreOfTheDurableStateOnly(t *testing.T) {
	rounds := 400
	if testing.Short() || race.On {
		rounds = 80
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, tc := range []struct {
		copied int // rows; what has more is read again
		fails  bool
	}{{1000, false}, {1000, true}, {2, false}, {2, true}} {
		t.Run(fmt.Sprintf("%+v", tc), func(t *testing.T) {
			store := newFlaky()
			kept := &remembering{Snapshots: openFile(t, t.TempDir(), store)}
			s := openShop(t, store, func(c *commands.Config) {
				c.Snapshots, c.CachedStreams = kept, 3 // so that streams come and go
			})
			s.SnapshotEvery(4, tc.copied)
			if tc.fails {
				store.onAppend(nowAndThen(store, seed, func() {
					for range 1000 { // so that what was decided meanwhile has to be thrown away
						if s.Waiting() > 1 {
							return
						}
						runtime.Gosched()
					}
				}))
			}
			together(8, func(i int) {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for n := range rounds {
					name, body := someCommand(r, fmt.Sprintf("%d-%d", i, n))
					_, _ = s.try(name, body) // many are refused
				}
			})
			require.NoError(t, s.Close())
			require.NotEmpty(t, kept.all)
			kinds := map[string]int{}
			for _, snapshot := range kept.all {
				state, hash := stateAt(t, store, snapshot.Stream, snapshot.Version)
				require.Equal(t, hash, snapshot.Hash, "%s@%d", snapshot.Stream, snapshot.Version)
				require.Equal(t, string(state), string(snapshot.State), "%s@%d", snapshot.Stream, snapshot.Version)
				kind, _, _ := strings.Cut(snapshot.Stream, "-")
				kinds[kind]++
			}
			t.Logf("%d events, snapshots %v", s.head(), kinds)
			if rounds == 400 {
				require.Len(t, kinds, 4, "of every kind")
			}

			without := openShop(t, store)
			with := openShop(t, store, func(c *commands.Config) { c.Snapshots = kept })
			require.Equal(t, without.rows(), with.rows())
		})
	}
}

// nowAndThen fails an append, before or after it was written, after a wait.
func nowAndThen(store *flaky, seed uint64, wait func()) func([]events.Commit) ([]uint64, error) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 99))
	return func(commits []events.Commit) ([]uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		switch r.IntN(40) {
		case 0:
			wait()
			return nil, errDisk
		case 1:
			wait()
			store.record(commits[:r.IntN(len(commits)+1)]...)
			return nil, errDisk
		}
		return store.Store.Append(context.Background(), commits...)
	}
}

// someCommand is a command about one of three items, and what belongs to them.
func someCommand(r *rand.Rand, id string) (name, body string) {
	item, place := fmt.Sprint("i", r.IntN(3)), []string{"paris", "berlin"}[r.IntN(2)]
	reservation := fmt.Sprintf("r%d", r.IntN(12))
	switch r.IntN(16) {
	case 0:
		return "create-inventory-items", fmt.Sprintf(`{"items":[{"id":%q,"sku":%q,"metadata":{"by":%q}}]}`, item, "sku-"+item, id)
	case 1:
		return "update-inventory-items", fmt.Sprintf(`[{"id":%q,"sku":%q,"title":null,"description":%q,"metadata":null}]`, item, "s"+place, id)
	case 2:
		return []string{"delete-inventory-items", "restore-inventory-items"}[r.IntN(2)], fmt.Sprintf(`[%q]`, item)
	case 3:
		return "create-inventory-levels", fmt.Sprintf(`[{"inventory_item_id":%q,"location_id":%q,"stocked_quantity":1.50}]`, item, place)
	case 4:
		return "delete-inventory-levels", fmt.Sprintf(`{"inventory_item_id":%q,"location_id":%q,"force":true}`, item, place)
	case 5, 6, 7:
		return "adjust-inventory-levels", fmt.Sprintf(`[{"inventory_item_id":%q,"location_id":%q,"adjustment":%d}]`, item, place, r.IntN(9)-2)
	case 8, 9:
		return "create-reservations", fmt.Sprintf(`[{"id":%q,"inventory_item_id":%q,"location_id":%q,"quantity":1}]`, reservation, item, place)
	case 10:
		return "update-reservations", fmt.Sprintf(`[{"id":%q,"location_id":%q,"quantity":2,"metadata":{"a":1.0}}]`, reservation, place)
	case 11:
		return "delete-reservations", fmt.Sprintf(`[%q]`, reservation)
	case 12:
		return []string{"restore-reservations", "delete-reservations"}[r.IntN(2)], fmt.Sprintf(`[%q]`, reservation)
	case 13:
		return "fulfill-reservations", fmt.Sprintf(`[{"id":%q}]`, reservation)
	case 14:
		return []string{"attach-inventory-items", "detach-inventory-items"}[r.IntN(2)], fmt.Sprintf(`[{"variant_id":"kit","inventory_item_id":%q}]`, item)
	default:
		if r.IntN(2) == 0 {
			return "create-stock-locations", `[{"id":"hall","name":"Hall"}]`
		}
		return "update-stock-locations", fmt.Sprintf(`[{"id":"hall","name":%q}]`, id)
	}
}

// Snapshots that cannot be kept or found are no reason to refuse anything.
func TestSnapshotsThatFailFailNothing(t *testing.T) {
	store := &counting{Store: memstore.New()}
	longLife(t, store, "cup", 3000)
	var told lockedBuffer
	s := openShop(t, store, func(c *commands.Config) {
		c.Snapshots, c.Logger = broken{}, slog.New(slog.NewTextHandler(&told, nil))
	})
	s.SnapshotEvery(10, 1000) // copied, as what waits to be read when the engine closes is left
	for range 50 {
		s.do("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	}
	require.Equal(t, "800", s.level("cup", "paris").StockedQuantity.String())
	require.NoError(t, s.Close())
	require.Equal(t, 1, strings.Count(told.String(), "snapshots cannot be read"), told.String())
	require.Equal(t, 1, strings.Count(told.String(), "snapshots cannot be written"), told.String())
}

type broken struct{}

func (broken) Snapshot(context.Context, string) (commands.Snapshot, bool, error) {
	return commands.Snapshot{}, false, errDisk
}
func (broken) Keep(context.Context, commands.Snapshot) error { return errDisk }
func (broken) Discard(context.Context, string) error         { return errDisk }

// A stream in memory is snapshotted as it grows, so that a start after a crash
// finds one that is not far behind.
func TestASnapshotFollowsItsStream(t *testing.T) {
	for _, copied := range []int{10, 0} {
		t.Run(fmt.Sprintf("%d rows are copied", copied), func(t *testing.T) {
			store := memstore.New()
			f := openFile(t, t.TempDir(), store)
			s := openShop(t, store, func(c *commands.Config) { c.Snapshots, c.Index = f, upToDate{store: store} })
			s.SnapshotEvery(50, copied)
			s.stocked("cup", "paris", 0)
			together(10, func(int) {
				for range 100 {
					s.do("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
				}
			})
			soon(t, func() bool {
				kept, _, err := f.Snapshot(t.Context(), "item-cup")
				require.NoError(t, err)
				return kept.Version > 1002-50
			}, "it is kept")
		})
	}
}

// Finding a reservation that was released long ago takes reading its item's
// stream. While that takes longer than the item needs to move on, it is not read
// again from its beginning.
func TestTheArchiveOfABusyItemIsReadOnce(t *testing.T) {
	const n = 6000
	store := &counting{Store: memstore.New()}
	longLife(t, store, "cup", n)
	busy := &busy{counting: store}
	s := openShop(t, busy, func(c *commands.Config) { c.Index = holdsAll{upToDate{store: store}, "cup"} })
	s.level("cup", "paris")
	busy.after = func() {
		line := `{"inventory_item_id":"cup","location_id":"paris","adjustment":1}`
		s.do("adjust-inventory-levels", "["+strings.Repeat(line+",", domain.MaxReleased)+line+"]")
	}
	read := store.readBy(func() {
		row := result[[]commands.ReservationRow](t, s.do("restore-reservations", `["cup-r1"]`))[0]
		require.Equal(t, "1", row.Quantity.String())
		require.Nil(t, row.DeletedAt)
	})
	require.Equal(t, n+1+domain.MaxReleased+1, read, "all, and then the newest again and what came since")
	require.Equal(t, fmt.Sprint(n/4+domain.MaxReleased+1), s.level("cup", "paris").StockedQuantity.String())
}

// An item forgets another of the reservations while the first are being read.
func TestTheArchiveIsReadAgainForWhatWasForgottenMeanwhile(t *testing.T) {
	const n = 6000
	oldest := fmt.Sprintf("cup-r%d", (n-2)/4-domain.MaxReleased+1)
	store := &counting{Store: memstore.New()}
	longLife(t, store, "cup", n)
	busy := &busy{counting: store}
	s := openShop(t, busy, func(c *commands.Config) { c.Index = holdsAll{upToDate{store: store}, "cup"} })
	s.level("cup", "paris")
	busy.after = func() {
		busy.after = nil
		s.do("create-reservations", `[{"id":"one-more","inventory_item_id":"cup","location_id":"paris","quantity":1}]`)
		s.do("delete-reservations", `["one-more"]`)
	}
	read := store.readBy(func() {
		rows := result[[]commands.ReservationRow](t, s.do("restore-reservations", fmt.Sprintf(`["cup-r1",%q]`, oldest)))
		require.Equal(t, "1 1", fmt.Sprint(rows[0].Quantity, " ", rows[1].Quantity))
	})
	require.Equal(t, n+n+2, read, "all, and all again, to which two were added")
}

// busy is a store in which something happens whenever a stream was read from its
// beginning.
type busy struct {
	*counting
	after func()
}

func (b *busy) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for r, err := range b.counting.Read(ctx, stream, after) {
			if !yield(r, err) {
				return
			}
		}
		if b.after != nil && after == 0 && stream == "item-cup" {
			b.after()
		}
	}
}

// holdsAll is an index that finds the reservations of a long life.
type holdsAll struct {
	upToDate
	item string
}

func (h holdsAll) Find(_ context.Context, kind, key string) ([]commands.Ref, error) {
	if kind != commands.FindReservation || !strings.HasPrefix(key, h.item) {
		return nil, nil
	}
	return []commands.Ref{{Item: h.item, ID: key}}, nil
}
