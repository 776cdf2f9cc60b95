package commands_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

// lagging is an index that knows the log up to where catchUp last took it.
type lagging struct {
	t     testing.TB
	store events.Store

	mu       sync.Mutex
	position uint64
	commands map[string]commit
	refs     map[kindKey][]commands.Ref
	line     map[string]string // of a reservation
	at       map[string]string // location of a reservation
	asked    int
	asking   func(key string) // called once, before an answer about a command leaves
	finding  func()           // likewise, before an answer about what a command names
}

type (
	commit struct {
		position uint64
		digest   string
	}
	kindKey struct{ kind, key string }
)

func newLagging(t testing.TB, store events.Store) *lagging {
	return &lagging{
		t: t, store: store, commands: map[string]commit{}, refs: map[kindKey][]commands.Ref{},
		line: map[string]string{}, at: map[string]string{},
	}
}

func (x *lagging) Position() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.position
}

func (x *lagging) Command(_ context.Context, key string) (uint64, string, bool, error) {
	x.mu.Lock()
	c, found := x.commands[key]
	x.asked++
	asking := x.asking
	x.asking = nil
	x.mu.Unlock()
	if asking != nil {
		asking(key)
	}
	return c.position, c.digest, found, nil
}

func (x *lagging) Find(_ context.Context, kind, key string) ([]commands.Ref, error) {
	x.mu.Lock()
	found := slices.Clone(x.refs[kindKey{kind, key}])
	finding := x.finding
	x.finding = nil
	x.mu.Unlock()
	if finding != nil {
		finding()
	}
	return found, nil
}

// catchUp folds what the log has, up to n more commits; n < 0 is all of them.
func (x *lagging) catchUp(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	head, err := x.store.Head(x.t.Context())
	require.NoError(x.t, err)
	if x.position == head || n == 0 {
		return
	}
	for batch, err := range x.store.Subscribe(x.t.Context(), x.position) {
		require.NoError(x.t, err)
		for _, r := range batch {
			meta, err := r.Metadata()
			require.NoError(x.t, err)
			fact, err := r.Fact()
			require.NoError(x.t, err)
			x.fold(fact)
			if meta.Last() {
				_, twice := x.commands[meta.CommandID]
				require.False(x.t, twice, "command %s is in the log twice", meta.CommandID)
				x.commands[meta.CommandID] = commit{r.Position, meta.Digest}
				n--
			}
			if x.position = r.Position; x.position == head || n == 0 && meta.Last() {
				return
			}
		}
	}
}

func (x *lagging) fold(fact events.Fact) {
	add := func(kind, key, item, id string) {
		at, ref := kindKey{kind, key}, commands.Ref{Item: item, ID: id}
		if !slices.Contains(x.refs[at], ref) {
			x.refs[at] = append(x.refs[at], ref)
		}
	}
	remove := func(kind, key, id string) {
		at := kindKey{kind, key}
		x.refs[at] = slices.DeleteFunc(x.refs[at], func(r commands.Ref) bool { return r.ID == id })
	}
	described := func(item, id string, details events.ReservationDetails) {
		remove(commands.FindLine, x.line[id], id)
		if x.line[id] = ""; details.LineItemID != nil {
			x.line[id] = *details.LineItemID
			add(commands.FindLine, *details.LineItemID, item, id)
		}
	}
	heldAt := func(item, id, location string) {
		remove(commands.FindLocationReservations, x.at[id], id)
		x.at[id] = location
		add(commands.FindLocationReservations, location, item, id)
	}
	switch f := fact.(type) {
	case events.LevelCreated:
		add(commands.FindLevel, f.LevelID, f.ItemID, f.LevelID)
		add(commands.FindLocationLevels, f.LocationID, f.ItemID, f.LevelID)
	case events.LevelRestored:
		add(commands.FindLocationLevels, f.LocationID, f.ItemID, f.LevelID)
	case events.LevelDeleted:
		remove(commands.FindLocationLevels, f.LocationID, f.LevelID)
	case events.ReservationCreated:
		add(commands.FindReservation, f.ReservationID, f.ItemID, f.ReservationID)
		described(f.ItemID, f.ReservationID, f.Details)
		heldAt(f.ItemID, f.ReservationID, f.LocationID)
	case events.ReservationUpdated:
		described(f.ItemID, f.ReservationID, f.Details)
	case events.ReservationRestored:
		heldAt(f.ItemID, f.ReservationID, f.LocationID)
	case events.ReservationMoved:
		heldAt(f.ItemID, f.ReservationID, f.LocationID)
	case events.ReservationReleased:
		remove(commands.FindLocationReservations, f.LocationID, f.ReservationID)
	case events.ReservationFulfilled:
		if f.Remaining.IsZero() {
			remove(commands.FindLocationReservations, f.LocationID, f.ReservationID)
		}
	case events.ItemLinked:
		add(commands.FindItemVariants, f.ItemID, f.ItemID, f.VariantID)
	case events.ItemUnlinked:
		remove(commands.FindItemVariants, f.ItemID, f.VariantID)
	}
}
