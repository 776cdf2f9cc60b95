package domain_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// What the stories are about.
const (
	bolts   = "iitem_bolts"
	berlin  = "sloc_berlin"
	hamburg = "sloc_hamburg"
	munich  = "sloc_munich"
	order1  = "resitem_1"
	order2  = "resitem_2"
	order3  = "resitem_3"
)

// levelAt is the id of the level of the bolts at a location.
func levelAt(location string) string { return "ilev_" + location }

// aggregate is what all of them can do.
type aggregate interface {
	Apply(fact events.Fact, at domain.Stamp)
	Begin()
	Keep()
	Rollback()
}

// A scenario reads: given this past, when this is asked, then these facts are
// decided, or it is refused with this code and, among others, these details.
type scenario[A aggregate] struct {
	name    string
	given   []step[A]
	when    func(A) ([]events.Fact, error)
	then    []events.Fact
	refused string
	details details
}

// details are the details of a refusal that matter, as people read them.
type details map[string]string

// A step adds facts to a past. It sees what came before, so that the stories
// need not spell out every sum.
type step[A aggregate] func(A) []events.Fact

func past[A aggregate](steps ...step[A]) []step[A] { return steps }

func run[A aggregate](t *testing.T, newAggregate func() A, scenarios []scenario[A]) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			a := newAggregate()
			version := uint64(0)
			apply := func(facts []events.Fact) {
				for _, fact := range facts {
					version++
					a.Apply(fact, stamp(version))
				}
			}
			for _, step := range s.given {
				apply(step(a))
			}

			got, err := s.when(a)

			require.Equal(t, s.refused, fault.Code(err), "refused with %v", err)
			require.Empty(t, cmp.Diff(s.then, got, cmpopts.EquateEmpty()), "then (-want +got)")
			if err != nil {
				require.Nil(t, got, "a refusal decides nothing")
				for name, want := range s.details {
					require.Equal(t, want, fmt.Sprint(fault.Of(err).Details[name]), "detail %s of %v", name, fault.Of(err).Details)
				}
			}
			apply(got) // what was decided can follow
		})
	}
}

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// stamp is that of the nth fact, a minute after the one before.
func stamp(n uint64) domain.Stamp {
	return domain.Stamp{Version: n, At: day.Add(time.Duration(n) * time.Minute)}
}

// q is a quantity.
func q(text string) events.Quantity {
	quantity, err := events.ParseQuantity(text)
	if err != nil {
		panic(err)
	}
	return quantity
}

func raw(text string) json.RawMessage { return json.RawMessage(text) }

// The past of an item.

type itemStep = step[*domain.Item]

func newItem() *domain.Item { return new(domain.Item) }

func runItem(t *testing.T, scenarios ...scenario[*domain.Item]) {
	t.Helper()
	run(t, newItem, scenarios)
}

func one(fact events.Fact) itemStep {
	return func(*domain.Item) []events.Fact { return []events.Fact{fact} }
}

// created is the bolts, without a SKU or anything else.
func created(it *domain.Item) []events.Fact { return describedAs(events.ItemAttributes{})(it) }

func describedAs(a events.ItemAttributes) itemStep {
	return one(events.ItemCreated{ItemID: bolts, Attributes: a})
}

// stocked has the bolts at a location.
func stocked(location, quantity string) itemStep {
	return one(events.LevelCreated{ItemID: bolts, LevelID: levelAt(location), LocationID: location, Stocked: q(quantity)})
}

// announced has bolts on their way to a location.
func announced(location, quantity string) itemStep {
	return func(it *domain.Item) []events.Fact {
		l, _ := it.Level(location)
		return []events.Fact{events.IncomingSet{ItemID: bolts, LevelID: l.ID, LocationID: location, From: l.Incoming, Incoming: q(quantity)}}
	}
}

// lost takes bolts out of stock, reserved or not.
func lost(location, quantity string) itemStep {
	return func(it *domain.Item) []events.Fact {
		l, _ := it.Level(location)
		return []events.Fact{events.StockAdjusted{
			ItemID: bolts, LevelID: l.ID, LocationID: location, Delta: q(quantity).Negated(), Stocked: l.Stocked.Minus(q(quantity)), Reserved: l.Reserved,
		}}
	}
}

// held sets bolts aside.
func held(id, location, quantity string) itemStep {
	return heldAs(id, location, quantity, events.ReservationDetails{})
}

func heldAs(id, location, quantity string, details events.ReservationDetails) itemStep {
	return func(it *domain.Item) []events.Fact {
		l, _ := it.Level(location)
		return []events.Fact{events.ReservationCreated{
			ItemID: bolts, LevelID: l.ID, LocationID: location, ReservationID: id, Quantity: q(quantity), Details: details,
			Stocked: l.Stocked, Reserved: l.Reserved.Plus(q(quantity)),
		}}
	}
}

// letGo releases a reservation.
func letGo(id string) itemStep {
	return func(it *domain.Item) []events.Fact { return must(it.Release(bolts, id)) }
}

// shipped fulfils a part of a reservation.
func shipped(id, quantity string) itemStep {
	return func(it *domain.Item) []events.Fact {
		return must(it.Fulfil(bolts, id, new(q(quantity)), domain.FloorNone, nil))
	}
}

// unstocked deletes a level.
func unstocked(location string) itemStep {
	return func(it *domain.Item) []events.Fact { return must(it.DeleteLevel(bolts, location, true, nil)) }
}

// deleted deletes the item.
func deleted(it *domain.Item) []events.Fact { return must(it.Delete(bolts, nil)) }

// restored restores it.
func restored(it *domain.Item) []events.Fact { return must(it.Restore(bolts)) }

func must(facts []events.Fact, err error) []events.Fact {
	if err != nil {
		panic(err)
	}
	return facts
}

// fold is the aggregate after a past.
func fold(steps ...itemStep) *domain.Item {
	it := newItem()
	for _, step := range steps {
		take(it, step(it))
	}
	return it
}

// take applies what was decided.
func take(it *domain.Item, facts []events.Fact) {
	for _, fact := range facts {
		it.Apply(fact, stamp(it.Version+1))
	}
}
