package domain_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// The rules as properties: whatever is asked, sensible or not, in whatever order.

// Under the default floors and without backorder, no location ever promises
// stock it does not have: not after a commit, and not between its facts.
func TestNeverOversold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live(t, anItem(tame), 60, func(it *domain.Item, _ ask[*domain.Item], _ []events.Fact) {
			for _, l := range it.Levels() {
				require.GreaterOrEqual(t, l.Stocked.Sign(), 0, "%s stocked at %s", l.Stocked, l.LocationID)
				require.GreaterOrEqual(t, l.Reserved.Sign(), 0, "%s reserved at %s", l.Reserved, l.LocationID)
				require.GreaterOrEqual(t, l.Available().Sign(), 0, "%s available at %s", l.Available(), l.LocationID)
			}
		})
	})
}

// What a level says is reserved is the sum of the live reservations there,
// after every fact, oversold or not.
func TestReservedIsTheSumOfTheReservations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live(t, anItem(wild), 60, func(it *domain.Item, _ ask[*domain.Item], _ []events.Fact) {
			sums := make(map[string]events.Quantity)
			for _, r := range it.Reservations() {
				require.Positive(t, r.Quantity.Sign(), "%s holds %s", r.ID, r.Quantity)
				sums[r.LocationID] = sums[r.LocationID].Plus(r.Quantity)
			}
			var stocked, reserved events.Quantity
			for _, l := range it.Levels() {
				require.True(t, sums[l.LocationID].Equal(l.Reserved), "%s reserved at %s, held %s", l.Reserved, l.LocationID, sums[l.LocationID])
				require.True(t, l.Reserved.Plus(l.Available()).Equal(l.Stocked))
				stocked, reserved = stocked.Plus(l.Stocked), reserved.Plus(l.Reserved)
				delete(sums, l.LocationID)
			}
			require.Empty(t, sums, "held where nothing is stocked")
			totalStocked, totalReserved := it.Totals()
			require.True(t, totalStocked.Equal(stocked) && totalReserved.Equal(reserved))
		})
	})
}

// Stock comes and goes only by the facts that say so, and each says what it
// comes to, so that a reader who knows no rules can fold the same numbers.
func TestFactsCarryWhatResulted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live(t, anItem(wild), 60, func(it *domain.Item, _ ask[*domain.Item], facts []events.Fact) {
			is := func(location string, stocked, reserved events.Quantity) {
				l, found := it.Level(location)
				require.True(t, found)
				require.True(t, l.Stocked.Equal(stocked) && l.Reserved.Equal(reserved), "%+v says %s, %s", l, stocked, reserved)
			}
			var f struct {
				LocationID     string           `json:"location_id"`
				Stocked        *events.Quantity `json:"stocked_quantity"`
				Reserved       *events.Quantity `json:"reserved_quantity"`
				FromLocationID string           `json:"from_location_id"`
				FromStocked    *events.Quantity `json:"from_stocked_quantity"`
				FromReserved   *events.Quantity `json:"from_reserved_quantity"`
			}
			data, err := json.Marshal(facts[len(facts)-1])
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &f))
			if f.Reserved != nil {
				is(f.LocationID, *f.Stocked, *f.Reserved)
			}
			if f.FromReserved != nil {
				is(f.FromLocationID, *f.FromStocked, *f.FromReserved)
			}
		})
	})
}

// Deleting an item and restoring it gives back exactly the levels it had.
func TestRestoreGivesBackWhatDeleteTook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		it, version, _ := live(t, anItem(wild), 40, nil)
		for _, r := range it.Reservations() {
			if facts, err := it.Release(bolts, r.ID); err == nil {
				version = takeAll(it, version, facts)
			}
		}
		if !it.Exists() || len(it.Reservations()) > 0 {
			t.Skip("nothing to delete")
		}
		before := it.Levels()

		version = takeAll(it, version, must(it.Delete(bolts, nil)))
		require.Empty(t, it.Levels())
		takeAll(it, version, must(it.Restore(bolts)))

		after := it.Levels()
		for i := range after { // these are younger, as they must be
			after[i].Updated, after[i].Version = before[i].Updated, before[i].Version
		}
		require.Empty(t, gocmp.Diff(before, after))
	})
}

// What holds for every aggregate.
func TestEveryAggregate(t *testing.T) {
	t.Run("item", func(t *testing.T) { keepsItsPromises(t, anItem(wild)) })
	t.Run("tame item", func(t *testing.T) { keepsItsPromises(t, anItem(tame)) })
	t.Run("sku", func(t *testing.T) { keepsItsPromises(t, aSKU) })
	t.Run("variant", func(t *testing.T) { keepsItsPromises(t, aVariant) })
	t.Run("location", func(t *testing.T) { keepsItsPromises(t, aLocation) })
}

func keepsItsPromises[A aggregate](t *testing.T, k kind[A]) {
	t.Run("refused means no facts", rapid.MakeCheck(func(t *rapid.T) {
		a, _, _ := live(t, k, 20, nil)
		before := k.view(a)
		for range 5 {
			asked := k.ask(t, a)
			facts, err := asked.do(a)
			if err != nil {
				require.Empty(t, facts, "%s: %v", asked.name, err)
			}
			require.Empty(t, gocmp.Diff(before, k.view(a)), "%s: asking changes nothing", asked.name)
		}
	}))

	t.Run("asked twice it answers alike", rapid.MakeCheck(func(t *rapid.T) {
		a, _, _ := live(t, k, 20, nil)
		asked := k.ask(t, a)
		facts, err := asked.do(a)
		for range 3 {
			again, errAgain := asked.do(a)
			require.Empty(t, gocmp.Diff(facts, again), asked.name)
			require.Equal(t, err, errAgain, asked.name)
		}
	}))

	t.Run("twice is once", rapid.MakeCheck(func(t *rapid.T) {
		a, version, _ := live(t, k, 20, nil)
		asked := k.ask(t, a)
		if !asked.idempotent {
			t.Skip("its repeat is for the engine to recognise")
		}
		facts, err := asked.do(a)
		if err != nil {
			t.Skip("refused")
		}
		takeAll(a, version, facts)
		again, _ := asked.do(a)
		require.Empty(t, again, "%s decided %v, and then", asked.name, facts)
	}))

	t.Run("rolled back is as before", rapid.MakeCheck(func(t *rapid.T) {
		a, version, facts := live(t, k, 20, nil)
		started := version - uint64(len(facts))
		for range rapid.IntRange(1, 4).Draw(t, "commits") {
			before := k.view(a)
			a.Begin()
			decided := more(t, k, a, version)
			if rapid.Bool().Draw(t, "keep") {
				a.Keep()
				facts = append(facts, decided...)
			} else {
				a.Rollback()
				require.Empty(t, gocmp.Diff(before, k.view(a)), "%v undone", decided)
			}
			version = started + uint64(len(facts))
			require.Empty(t, gocmp.Diff(k.view(replay(k, facts)), k.view(a)), "unlike what the facts say")
		}
		// What cannot be seen is as before, too: life goes on alike.
		other := replay(k, facts)
		for range 10 {
			asked := k.ask(t, a)
			decided, err := asked.do(a)
			want, wantErr := asked.do(other)
			require.Empty(t, gocmp.Diff(want, decided), asked.name)
			require.Equal(t, wantErr, err, asked.name)
			takeAll(a, version, decided)
			version = takeAll(other, version, decided)
			require.Empty(t, gocmp.Diff(k.view(other), k.view(a)), asked.name)
		}
	}))

	t.Run("facts are read back as they were decided", rapid.MakeCheck(func(t *rapid.T) {
		a, _, facts := live(t, k, 20, nil)
		read := make([]events.Fact, len(facts))
		for i, fact := range facts {
			data, err := json.Marshal(fact)
			require.NoError(t, err)
			read[i], err = events.Decode(fact.EventType(), data)
			require.NoError(t, err, "%s", data)
			require.Empty(t, gocmp.Diff(fact, read[i]), "%s", data)
		}
		require.Empty(t, gocmp.Diff(k.view(a), k.view(replay(k, read))))
	}))
}

// The life of the cup that events/testdata records can be lived again.
func TestTheRecordingsAreAPossibleLife(t *testing.T) {
	lines, err := os.Open("../events/testdata/recordings.jsonl")
	require.NoError(t, err)
	defer lines.Close()
	var (
		item      domain.Item
		sku       domain.SKU
		variant   domain.Variant
		locations = map[string]*domain.Location{"sloc_berlin": {}, "sloc_paris": {}}
	)
	for decoder := json.NewDecoder(lines); decoder.More(); {
		var line struct {
			Stream, Type string
			Version      uint64
			Data         json.RawMessage
			Meta         struct {
				Recorded time.Time `json:"recorded_at"`
			}
		}
		require.NoError(t, decoder.Decode(&line))
		fact, err := events.Decode(line.Type, line.Data)
		require.NoError(t, err)
		at := domain.Stamp{Version: line.Version, At: line.Meta.Recorded}
		kind, id, err := events.SplitStream(line.Stream)
		require.NoError(t, err)
		switch kind {
		case "item":
			item.Apply(fact, at)
		case "sku":
			sku.Apply(fact, at)
		case "variant":
			variant.Apply(fact, at)
		case "location":
			locations[id].Apply(fact, at)
		}
	}
	stocked, reserved := item.Totals()
	require.Equal(t, "27 0", fmt.Sprint(stocked, reserved))
	require.Equal(t, "iitem_cup", sku.Owner)
	required, _ := variant.Link("iitem_cup")
	require.Equal(t, "6", required.String())
	require.False(t, locations["sloc_berlin"].Exists())
	require.Equal(t, []string{"fp_manual"}, locations["sloc_paris"].Links.FulfillmentProviders)
}

// A kind of aggregate, and how to try it out.
type kind[A aggregate] struct {
	fresh func() (a A, version uint64)
	ask   func(*rapid.T, A) ask[A]
	view  func(A) any // all that can be seen
}

// An ask is a decision with its arguments.
type ask[A aggregate] struct {
	name       string
	do         func(A) ([]events.Fact, error)
	idempotent bool
}

// live asks a new aggregate this and that, up to steps times, and takes in what
// it decides. each sees it after every single fact, with the facts of that decision so far.
func live[A aggregate](t *rapid.T, k kind[A], steps int, each func(A, ask[A], []events.Fact)) (a A, version uint64, facts []events.Fact) {
	a, version = k.fresh()
	for range rapid.IntRange(0, steps).Draw(t, "steps") {
		asked := k.ask(t, a)
		decided, err := asked.do(a)
		if err != nil {
			require.Empty(t, decided, asked.name)
		}
		for i, fact := range decided {
			version++
			a.Apply(fact, stamp(version))
			if each != nil {
				each(a, asked, decided[:i+1])
			}
		}
		facts = append(facts, decided...)
	}
	return a, version, facts
}

// more is a few more decisions.
func more[A aggregate](t *rapid.T, k kind[A], a A, version uint64) []events.Fact {
	var facts []events.Fact
	for range rapid.IntRange(0, 6).Draw(t, "more") {
		decided, _ := k.ask(t, a).do(a)
		version = takeAll(a, version, decided)
		facts = append(facts, decided...)
	}
	return facts
}

func takeAll[A aggregate](a A, version uint64, facts []events.Fact) uint64 {
	for _, fact := range facts {
		version++
		a.Apply(fact, stamp(version))
	}
	return version
}

func replay[A aggregate](k kind[A], facts []events.Fact) A {
	a, version := k.fresh()
	takeAll(a, version, facts)
	return a
}

// How wild the asking is: with floors and backorder, or without.
type wildness bool

const (
	tame wildness = false
	wild wildness = true
)

var (
	places = []string{berlin, hamburg, munich}
	orders = []string{order1, order2, order3, "resitem_4", "resitem_5"}
)

func anItem(w wildness) kind[*domain.Item] {
	return kind[*domain.Item]{
		fresh: func() (*domain.Item, uint64) { return fold(created, stocked(berlin, "5"), stocked(hamburg, "2.5")), 3 },
		ask:   func(t *rapid.T, it *domain.Item) ask[*domain.Item] { return askItem(t, it, w) },
		view:  viewItem,
	}
}

func viewItem(it *domain.Item) any {
	reservations := it.Reservations()
	slices.SortFunc(reservations, func(a, b domain.Reservation) int { return cmp.Compare(a.ID, b.ID) })
	released := make(map[string]domain.Reservation)
	for _, id := range orders {
		if r, found := it.Released(id); found {
			released[id] = r
		}
	}
	back, err := it.Restore(bolts)
	return []any{
		it.ID, it.Version, it.Attributes, it.Created, it.Updated, it.Deleted, it.Exists(), it.Levels(),
		reservations, released, it.RemovedLinks(), back, fmt.Sprint(err),
	}
}

// askItem draws a decision of an item and its arguments, sensible or not.
func askItem(t *rapid.T, it *domain.Item, w wildness) ask[*domain.Item] {
	place := rapid.SampledFrom(places).Draw(t, "location")
	order := rapid.SampledFrom(orders).Draw(t, "reservation")
	amount := anyAmount(t, w)
	floor := domain.FloorReserved
	if w == wild {
		floor = rapid.SampledFrom([]domain.Floor{"", domain.FloorReserved, domain.FloorZero, domain.FloorNone}).Draw(t, "floor")
	}
	mayOverdraw := w == wild && rapid.Bool().Draw(t, "backorder")
	text := anyText(t)
	metadata := anyMetadata(t)
	expect := anyExpectation(t)
	now := fmt.Sprintf("ilev_%d", it.Version)
	if rapid.IntRange(0, 9).Draw(t, "old level id") == 0 {
		now = levelAt(berlin)
	}

	switch name := rapid.SampledFrom([]string{
		"create", "update", "delete", "restore", "create level", "create level", "adjust", "adjust", "update level", "delete level",
		"reserve", "reserve", "reserve", "update reservation", "update reservation", "move", "release", "restore reservation", "fulfil", "fulfil all",
	}).Draw(t, "ask"); name {
	case "create":
		return ask[*domain.Item]{name, createItem(events.ItemAttributes{Metadata: raw(`{ "b":1 }`)}), false}
	case "update":
		return ask[*domain.Item]{name, updateItem(domain.ItemChanges{
			SKU: text, Title: text, Weight: domain.Field[events.Quantity]{Set: text.Set, Value: &amount}, Metadata: metadata,
			RequiresShipping: domain.Value(rapid.Bool().Draw(t, "shipping")),
		}), true}
	case "delete":
		return ask[*domain.Item]{name, deleteItem(events.Link{VariantID: kit, Required: q("1")}), true}
	case "restore":
		return ask[*domain.Item]{name, restoreItem, true}
	case "create level":
		level := domain.NewLevel{ID: now, LocationID: place, Stocked: amount, Incoming: anyIncoming(t)}
		if metadata.Value != nil {
			level.Metadata = *metadata.Value
		}
		return ask[*domain.Item]{name, createLevel(level), false}
	case "adjust":
		return ask[*domain.Item]{name, func(it *domain.Item) ([]events.Fact, error) {
			return it.Adjust(bolts, place, amount, floor, expect)
		}, false}
	case "update level":
		c := domain.LevelChanges{Stocked: &amount, Metadata: metadata}
		if rapid.Bool().Draw(t, "incoming") {
			c.Incoming = new(anyIncoming(t))
		}
		return ask[*domain.Item]{name, func(it *domain.Item) ([]events.Fact, error) {
			return it.UpdateLevel(bolts, place, c, floor, expect)
		}, true}
	case "delete level":
		return ask[*domain.Item]{name, deleteLevel(place, rapid.Bool().Draw(t, "force")), true}
	case "reserve":
		n := domain.NewReservation{ID: order, LocationID: place, Quantity: amount}
		n.Details.AllowBackorder, n.Details.Description = mayOverdraw, text.Value
		if metadata.Value != nil {
			n.Details.Metadata = *metadata.Value
		}
		return ask[*domain.Item]{name, func(it *domain.Item) ([]events.Fact, error) { return it.Reserve(bolts, n, expect) }, false}
	case "update reservation", "move":
		c := domain.ReservationChanges{Description: text, Metadata: metadata}
		if name == "move" {
			c.LocationID = &place
		}
		if rapid.Bool().Draw(t, "resize") {
			c.Quantity = &amount
		}
		if w == wild && rapid.Bool().Draw(t, "change backorder") {
			c.AllowBackorder = &mayOverdraw
		}
		return ask[*domain.Item]{name, updateReservation(anyHeld(t, it, order), c), true}
	case "release":
		return ask[*domain.Item]{name, release(anyHeld(t, it, order)), true}
	case "restore reservation":
		r, found := it.Released(order)
		if !found { // live, used up or never there; the engine passes what the stream remembers
			r = domain.Reservation{ID: order, LocationID: place, Quantity: q("1.25"), Created: day, Details: events.ReservationDetails{AllowBackorder: mayOverdraw}}
		}
		return ask[*domain.Item]{name, restoreReservation(r), true}
	case "fulfil":
		return ask[*domain.Item]{name, func(it *domain.Item) ([]events.Fact, error) {
			return it.Fulfil(bolts, order, &amount, floor, expect)
		}, false}
	default:
		return ask[*domain.Item]{name, fulfilAll(anyHeld(t, it, order), floor), false}
	}
}

// anyHeld prefers a reservation that is live.
func anyHeld(t *rapid.T, it *domain.Item, otherwise string) string {
	ids := []string{otherwise}
	for _, r := range it.Reservations() {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return rapid.SampledFrom(ids).Draw(t, "held")
}

// anyAmount is small and often fits; wild ones also reach the ends of the range.
func anyAmount(t *rapid.T, w wildness) events.Quantity {
	if w == wild && rapid.IntRange(0, 19).Draw(t, "extreme") == 0 {
		return rapid.SampledFrom([]events.Quantity{
			q("1e17"), q("-1e17"), q("999999999999999999"), q("1e-18"), q("0.999999999999999999"), events.Units(1e18), q("10000000000000000.5"),
		}).Draw(t, "amount")
	}
	quarters := rapid.Int64Range(-16, 24).Draw(t, "quarters")
	return q(fmt.Sprintf("%d.%02d", quarters/4, abs(quarters%4)*25))
}

func abs(n int64) int64 { return max(n, -n) }

func anyIncoming(t *rapid.T) events.Quantity {
	return q(rapid.SampledFrom([]string{"0", "0", "0", "1", "2.5", "-1"}).Draw(t, "incoming"))
}

func anyText(t *rapid.T) domain.Field[string] {
	return rapid.SampledFrom([]domain.Field[string]{
		{}, domain.Null[string](), domain.Value("a"), domain.Value("<b> & \u2028"), domain.Value(""),
	}).Draw(t, "text")
}

func anyMetadata(t *rapid.T) domain.Field[json.RawMessage] {
	return rapid.SampledFrom([]domain.Field[json.RawMessage]{
		{},
		{},
		domain.Null[json.RawMessage](), domain.Value(raw("null")), domain.Value(raw("{}")), domain.Value(raw(`{"a": "<é>"}`)),
		domain.Value(raw(`{"a":null, "b":[1.50, {"c":null}]}`)), domain.Value(raw(`[1]`)),
	}).Draw(t, "metadata")
}

func anyExpectation(t *rapid.T) *domain.Expect {
	return rapid.SampledFrom([]*domain.Expect{nil, nil, nil, nil, nil, {}, {Stocked: new(q("5"))}, {Reserved: new(q("0"))}, {Version: new(uint64(2))}}).Draw(t, "expect")
}

var aSKU = kind[*domain.SKU]{
	fresh: func() (*domain.SKU, uint64) { return new(domain.SKU), 0 },
	ask: func(t *rapid.T, _ *domain.SKU) ask[*domain.SKU] {
		item := rapid.SampledFrom([]string{bolts, nuts}).Draw(t, "item")
		if rapid.Bool().Draw(t, "claim") {
			return ask[*domain.SKU]{"claim", claim(item), true}
		}
		return ask[*domain.SKU]{"release", releaseSKU(item), true}
	},
	view: func(s *domain.SKU) any { return []any{s.Version, s.Owner} },
}

var aVariant = kind[*domain.Variant]{
	fresh: func() (*domain.Variant, uint64) { return new(domain.Variant), 0 },
	ask: func(t *rapid.T, _ *domain.Variant) ask[*domain.Variant] {
		item := rapid.SampledFrom([]string{bolts, nuts}).Draw(t, "item")
		required := anyAmount(t, wild)
		switch name := rapid.SampledFrom([]string{"attach", "attach one", "update", "detach"}).Draw(t, "ask"); name {
		case "attach":
			return ask[*domain.Variant]{name, attach(item, &required), true}
		case "attach one":
			return ask[*domain.Variant]{name, attach(item, nil), true}
		case "update":
			return ask[*domain.Variant]{name, func(v *domain.Variant) ([]events.Fact, error) { return v.UpdateLink(kit, item, required) }, true}
		default:
			return ask[*domain.Variant]{name, func(v *domain.Variant) ([]events.Fact, error) { return v.Detach(kit, item), nil }, true}
		}
	},
	view: func(v *domain.Variant) any {
		view := []any{v.Version}
		for _, item := range []string{bolts, nuts} {
			required, linked := v.Link(item)
			view = append(view, required, linked)
		}
		return view
	},
}

var aLocation = kind[*domain.Location]{
	fresh: func() (*domain.Location, uint64) { return new(domain.Location), 0 },
	ask: func(t *rapid.T, _ *domain.Location) ask[*domain.Location] {
		name, metadata := rapid.SampledFrom([]string{"Berlin", "Mitte", ""}).Draw(t, "name"), anyMetadata(t)
		address := events.Address{Address1: name, CountryCode: "de"}
		if metadata.Value != nil {
			address.Metadata = *metadata.Value
		}
		kind := rapid.SampledFrom([]events.LinkKind{events.SalesChannel, events.FulfillmentProvider, events.FulfillmentSet}).Draw(t, "kind")
		id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
		switch what := rapid.SampledFrom([]string{"open", "update", "update", "link", "link", "unlink", "close"}).Draw(t, "ask"); what {
		case "link":
			link := events.LocationLinked{LocationID: berlin, Kind: kind, ID: id}
			if kind == events.FulfillmentSet {
				link.Name, link.Type = name, "pickup"
			}
			made := rapid.Bool().Draw(t, "made")
			return ask[*domain.Location]{what, func(l *domain.Location) ([]events.Fact, error) { return l.Link(link, made) }, true}
		case "unlink":
			return ask[*domain.Location]{what, func(l *domain.Location) ([]events.Fact, error) { return l.Unlink(berlin, kind, id) }, true}
		case "open":
			return ask[*domain.Location]{what, open(events.LocationAttributes{Name: name, Metadata: address.Metadata, Address: &address}), false}
		case "update":
			c := domain.LocationChanges{Name: &name, Metadata: metadata}
			if rapid.Bool().Draw(t, "moves") {
				c.Address = domain.Value(address)
			}
			return ask[*domain.Location]{what, updateLocation(c), true}
		default:
			return ask[*domain.Location]{what, closeLocation, true}
		}
	},
	view: func(l *domain.Location) any {
		return []any{l.ID, l.Version, l.Attributes, l.Links, l.Created, l.Updated, l.Closed, l.Exists()}
	},
}
