package projections_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

var (
	bolts = events.ItemCreated{ItemID: "bolts", Attributes: events.ItemAttributes{
		SKU: new("B-8"), Title: new("Bolts"), Weight: new(qty("0.25")), RequiresShipping: true, Metadata: json.RawMessage(`{"a":1}`),
	}}
	atBerlin = events.LevelCreated{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Stocked: units(10), Incoming: units(2)}
	atParis  = events.LevelCreated{ItemID: "bolts", LevelID: "lev-p", LocationID: "paris", Stocked: qty("1.5"), Metadata: json.RawMessage(`{"row":7}`)}
	held     = events.ReservationCreated{
		ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1", Quantity: units(4),
		Details: events.ReservationDetails{LineItemID: new("line1"), CreatedBy: new("ann")}, Stocked: units(10), Reserved: units(4),
	}
	released = events.ReservationReleased{
		ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1",
		Quantity: units(4), Stocked: units(10), Reserved: units(0),
	}
	berlinGone = events.LevelDeleted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Stocked: units(10), Incoming: units(2)}
	boltsGone  = events.ItemDeleted{ItemID: "bolts", SKU: new("B-8"), Levels: []string{"lev-b"}}
	opened     = events.LocationOpened{LocationID: "berlin", Attributes: events.LocationAttributes{
		Name: "Berlin", Address: &events.Address{Address1: "Allee 1", CountryCode: "de"},
	}}
	linked = events.ItemLinked{VariantID: "v1", ItemID: "bolts", Required: units(2)}
)

func linkedTo(kind events.LinkKind, id string) events.LocationLinked {
	return events.LocationLinked{LocationID: "berlin", Kind: kind, ID: id}
}

// at is when the nth commit of a book was recorded.
func at(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }

// Every fact of the catalogue, each a commit of its own, and the row it leads to.
func TestFactsBecomeRows(t *testing.T) {
	t.Parallel()
	past := func(facts ...events.Fact) []events.Fact { return facts }
	item := func(change func(*projections.Item)) projections.Item {
		a := bolts.Attributes
		it := projections.Item{
			ID: "bolts", SKU: a.SKU, Title: a.Title, Weight: a.Weight, RequiresShipping: true, Metadata: a.Metadata,
			Version: 1, Created: at(1), Updated: at(1),
		}
		change(&it)
		return it
	}
	berlin := func(change func(*projections.Level)) projections.Level {
		l := projections.Level{
			ID: "lev-b", ItemID: "bolts", LocationID: "berlin", Stocked: units(10), Incoming: units(2),
			Available: units(10), Version: 2, Created: at(2), Updated: at(2),
		}
		change(&l)
		return l
	}
	r1 := func(change func(*projections.Reservation)) projections.Reservation {
		r := projections.Reservation{
			ID: "r1", ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Quantity: units(4), Status: "live",
			LineItemID: new("line1"), CreatedBy: new("ann"), Version: 3, Created: at(3), Updated: at(3),
		}
		change(&r)
		return r
	}
	link := func(change func(*projections.Link)) projections.Link {
		l := projections.Link{VariantID: "v1", ItemID: "bolts", Required: units(2), Version: 1, Created: at(1), Updated: at(1)}
		change(&l)
		return l
	}
	place := func(change func(*projections.Location)) projections.Location {
		l := projections.Location{
			ID: "berlin", Name: "Berlin", Address: opened.Attributes.Address, LocationLinks: events.NoLinks(),
			Version: 1, Created: at(1), Updated: at(1),
		}
		change(&l)
		return l
	}
	for _, tc := range []struct {
		name  string
		given []events.Fact
		then  []any // rows that are there, among others
	}{{
		name:  "item created",
		given: past(bolts),
		then:  []any{item(func(*projections.Item) {})},
	}, {
		name: "item updated",
		given: past(bolts, events.ItemUpdated{
			ItemID: "bolts", Changed: []string{"sku", "title", "weight"},
			Attributes: events.ItemAttributes{SKU: new("B-9"), RequiresShipping: true, Metadata: json.RawMessage(`{"a":1}`)},
		}),
		then: []any{item(func(it *projections.Item) {
			it.SKU, it.Title, it.Weight, it.Version, it.Updated = new("B-9"), nil, nil, 2, at(2)
		})},
	}, {
		name:  "item deleted after its levels",
		given: past(bolts, atBerlin, berlinGone, boltsGone),
		then: []any{
			item(func(it *projections.Item) { it.Version, it.Updated, it.Deleted = 4, at(4), new(at(4)) }),
			berlin(func(l *projections.Level) { l.Version, l.Updated, l.Deleted = 3, at(3), new(at(3)) }),
		},
	}, {
		name: "item restored, then its levels",
		given: past(bolts, atBerlin, berlinGone, boltsGone, events.ItemRestored{ItemID: "bolts", SKU: new("B-8")},
			events.LevelRestored{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Stocked: units(10), Incoming: units(2)}),
		then: []any{
			item(func(it *projections.Item) {
				it.Version, it.Updated, it.Stocked, it.Incoming, it.Available = 6, at(5), units(10), units(2), units(10)
			}),
			berlin(func(l *projections.Level) { l.Version, l.Updated = 6, at(6) }),
		},
	}, {
		name:  "levels created",
		given: past(bolts, atBerlin, atParis),
		then: []any{
			item(func(it *projections.Item) {
				it.Version, it.Stocked, it.Incoming, it.Available = 3, qty("11.5"), units(2), qty("11.5")
			}),
			berlin(func(*projections.Level) {}),
			projections.Level{
				ID: "lev-p", ItemID: "bolts", LocationID: "paris", Stocked: qty("1.5"), Available: qty("1.5"),
				Metadata: json.RawMessage(`{"row":7}`), Version: 3, Created: at(3), Updated: at(3),
			},
		},
	}, {
		name: "level updated",
		given: past(bolts, atBerlin, events.LevelUpdated{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			Metadata: json.RawMessage(`{"row":8}`),
		}),
		then: []any{
			berlin(func(l *projections.Level) { l.Metadata, l.Version, l.Updated = json.RawMessage(`{"row":8}`), 3, at(3) }),
			item(func(it *projections.Item) {
				it.Version, it.Stocked, it.Incoming, it.Available = 3, units(10), units(2), units(10)
			}),
		},
	}, {
		name:  "a level made again is another level",
		given: past(bolts, atBerlin, berlinGone, events.LevelCreated{ItemID: "bolts", LevelID: "lev-b2", LocationID: "berlin", Stocked: units(1)}),
		then: []any{
			berlin(func(l *projections.Level) { l.Version, l.Updated, l.Deleted = 3, at(3), new(at(3)) }),
			projections.Level{
				ID: "lev-b2", ItemID: "bolts", LocationID: "berlin", Stocked: units(1), Available: units(1),
				Version: 4, Created: at(4), Updated: at(4),
			},
			item(func(it *projections.Item) { it.Version, it.Stocked, it.Available = 4, units(1), units(1) }),
		},
	}, {
		name: "stock adjusted",
		given: past(bolts, atBerlin, events.StockAdjusted{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			Delta: qty("-0.5"), Stocked: qty("9.5"),
		}),
		then: []any{berlin(func(l *projections.Level) {
			l.Stocked, l.Available, l.Version, l.Updated = qty("9.5"), qty("9.5"), 3, at(3)
		})},
	}, {
		name: "stock set",
		given: past(bolts, atBerlin, events.StockSet{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			From: units(10), Stocked: units(3),
		}),
		then: []any{berlin(func(l *projections.Level) {
			l.Stocked, l.Available, l.Version, l.Updated = units(3), units(3), 3, at(3)
		})},
	}, {
		name: "incoming set",
		given: past(bolts, atBerlin, events.IncomingSet{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			From: units(2), Incoming: units(7),
		}),
		then: []any{berlin(func(l *projections.Level) { l.Incoming, l.Version, l.Updated = units(7), 3, at(3) })},
	}, {
		name:  "reservation created",
		given: past(bolts, atBerlin, held),
		then: []any{
			r1(func(*projections.Reservation) {}),
			berlin(func(l *projections.Level) {
				l.Reserved, l.Available, l.Version, l.Updated = units(4), units(6), 3, at(3)
			}),
			item(func(it *projections.Item) {
				it.Version, it.Stocked, it.Reserved, it.Incoming, it.Available = 3, units(10), units(4), units(2), units(6)
			}),
		},
	}, {
		name: "reservation updated",
		given: past(bolts, atBerlin, held, events.ReservationUpdated{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1",
			From: units(4), Quantity: qty("2.5"), Details: events.ReservationDetails{Description: new("for Bo")},
			Stocked: units(10), Reserved: qty("2.5"),
		}),
		then: []any{
			r1(func(r *projections.Reservation) {
				r.Quantity, r.LineItemID, r.CreatedBy, r.Description, r.Version, r.Updated = qty("2.5"), nil, nil, new("for Bo"), 4, at(4)
			}),
			berlin(func(l *projections.Level) {
				l.Reserved, l.Available, l.Version, l.Updated = qty("2.5"), qty("7.5"), 4, at(4)
			}),
		},
	}, {
		name: "reservation moved",
		given: past(bolts, atBerlin, held, atParis, events.ReservationMoved{
			ItemID: "bolts", ReservationID: "r1", Quantity: units(4),
			FromLevelID: "lev-b", FromLocationID: "berlin", FromStocked: units(10),
			LevelID: "lev-p", LocationID: "paris", Stocked: qty("1.5"), Reserved: units(4),
		}),
		then: []any{
			r1(func(r *projections.Reservation) {
				r.LevelID, r.LocationID, r.Version, r.Updated = "lev-p", "paris", 5, at(5)
			}),
			berlin(func(l *projections.Level) { l.Version, l.Updated = 5, at(5) }),
			projections.Level{
				ID: "lev-p", ItemID: "bolts", LocationID: "paris", Stocked: qty("1.5"), Reserved: units(4), Available: qty("-2.5"),
				Metadata: json.RawMessage(`{"row":7}`), Version: 5, Created: at(4), Updated: at(5),
			},
		},
	}, {
		name:  "reservation released",
		given: past(bolts, atBerlin, held, released),
		then: []any{
			r1(func(r *projections.Reservation) {
				r.Status, r.Version, r.Updated, r.Deleted = "released", 4, at(4), new(at(4))
			}),
			berlin(func(l *projections.Level) { l.Version, l.Updated = 4, at(4) }),
		},
	}, {
		name: "reservation restored",
		given: past(bolts, atBerlin, held, released, events.ReservationRestored{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			ReservationID: "r1", Quantity: units(4), Details: held.Details, Stocked: units(10), Reserved: units(4),
		}),
		then: []any{
			r1(func(r *projections.Reservation) { r.Version, r.Updated = 5, at(5) }),
			berlin(func(l *projections.Level) {
				l.Reserved, l.Available, l.Version, l.Updated = units(4), units(6), 5, at(5)
			}),
		},
	}, {
		name: "reservation fulfilled in part",
		given: past(bolts, atBerlin, held, events.ReservationFulfilled{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			ReservationID: "r1", Quantity: units(3), Remaining: units(1), Stocked: units(7), Reserved: units(1),
		}),
		then: []any{
			r1(func(r *projections.Reservation) {
				r.Quantity, r.Fulfilled, r.Version, r.Updated = units(1), units(3), 4, at(4)
			}),
			berlin(func(l *projections.Level) {
				l.Stocked, l.Reserved, l.Available, l.Version, l.Updated = units(7), units(1), units(6), 4, at(4)
			}),
		},
	}, {
		name: "reservation used up",
		given: past(bolts, atBerlin, held, events.ReservationFulfilled{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin",
			ReservationID: "r1", Quantity: units(4), Stocked: units(6),
		}),
		then: []any{
			r1(func(r *projections.Reservation) {
				r.Quantity, r.Fulfilled, r.Status, r.Version, r.Updated, r.Deleted = units(0), units(4), "fulfilled", 4, at(4), new(at(4))
			}),
			berlin(func(l *projections.Level) {
				l.Stocked, l.Available, l.Version, l.Updated = units(6), units(6), 4, at(4)
			}),
		},
	}, {
		name:  "linked",
		given: past(linked),
		then:  []any{link(func(*projections.Link) {})},
	}, {
		name:  "link updated",
		given: past(linked, events.LinkUpdated{VariantID: "v1", ItemID: "bolts", From: units(2), Required: qty("0.5")}),
		then:  []any{link(func(l *projections.Link) { l.Required, l.Version, l.Updated = qty("0.5"), 2, at(2) })},
	}, {
		name:  "unlinked",
		given: past(linked, events.ItemUnlinked{VariantID: "v1", ItemID: "bolts", Required: units(2)}),
		then:  []any{link(func(l *projections.Link) { l.Version, l.Updated, l.Deleted = 2, at(2), new(at(2)) })},
	}, {
		name: "linked again",
		given: past(linked, events.ItemUnlinked{VariantID: "v1", ItemID: "bolts", Required: units(2)},
			events.ItemLinked{VariantID: "v1", ItemID: "bolts", Required: units(5)}),
		then: []any{link(func(l *projections.Link) { l.Required, l.Version, l.Updated = units(5), 3, at(3) })},
	}, {
		name:  "a SKU changes hands",
		given: past(bolts, events.SKUClaimed{SKU: "B-8", ItemID: "bolts"}, events.SKUReleased{SKU: "B-8", ItemID: "bolts"}),
		then:  []any{item(func(*projections.Item) {})},
	}, {
		name:  "location opened",
		given: past(opened),
		then:  []any{place(func(*projections.Location) {})},
	}, {
		name: "location updated",
		given: past(opened, events.LocationUpdated{
			LocationID: "berlin", Changed: []string{"name", "address"},
			Attributes: events.LocationAttributes{Name: "Berlin Mitte", Metadata: json.RawMessage(`{"x":[1]}`)},
		}),
		then: []any{place(func(l *projections.Location) {
			l.Name, l.Address, l.Metadata, l.Version, l.Updated = "Berlin Mitte", nil, json.RawMessage(`{"x":[1]}`), 2, at(2)
		})},
	}, {
		name:  "location closed",
		given: past(opened, linkedTo(events.SalesChannel, "web"), events.LocationClosed{LocationID: "berlin"}),
		then:  []any{place(func(l *projections.Location) { l.Version, l.Updated, l.Deleted = 3, at(3), new(at(3)) })},
	}, {
		name: "location linked",
		given: past(opened, linkedTo(events.SalesChannel, "web"), linkedTo(events.SalesChannel, "shop"), linkedTo(events.FulfillmentProvider, "manual"),
			events.LocationLinked{LocationID: "berlin", Kind: events.FulfillmentSet, ID: "set", Name: "Pickup", Type: "pickup"}),
		then: []any{place(func(l *projections.Location) {
			l.SalesChannels, l.FulfillmentProviders = []string{"web", "shop"}, []string{"manual"}
			l.FulfillmentSets = []events.LinkedSet{{ID: "set", Name: "Pickup", Type: "pickup"}}
			l.Version, l.Updated = 5, at(5)
		})},
	}, {
		name: "location unlinked",
		given: past(opened, linkedTo(events.SalesChannel, "web"), linkedTo(events.SalesChannel, "shop"),
			events.LocationUnlinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "web"}),
		then: []any{place(func(l *projections.Location) { l.SalesChannels, l.Version, l.Updated = []string{"shop"}, 4, at(4) })},
	}, {
		name:  "a command that changed nothing",
		given: past(events.CommandAccepted{CommandID: "command-1"}),
		then: []any{projections.Command{
			CommandID: "command-1", Name: "adjust-inventory-levels", Digest: "d1", Position: 1, First: 1, Events: 1,
			Recorded: at(1), Effective: at(1),
		}},
	}} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBook()
			for _, fact := range tc.given {
				b.record(fact)
			}
			rows := everyRow(t, b.models(t))
			for _, want := range tc.then {
				require.Contains(t, rows, asJSON(t, want))
			}
		})
	}
}

// everyRow lists the rows of all models but movements, as JSON.
func everyRow(t testing.TB, m *projections.Models) []string {
	all := projections.List{WithDeleted: true, Take: new(1000)}
	var rows []string
	rows = append(rows, listed(t, m.ListItems, all)...)
	rows = append(rows, listed(t, m.ListLevels, all)...)
	rows = append(rows, listed(t, m.ListReservations, all)...)
	rows = append(rows, listed(t, m.ListLinks, all)...)
	rows = append(rows, listed(t, m.ListLocations, all)...)
	return append(rows, listed(t, m.ListCommands, all)...)
}

// What a commit of several events is, its last event in another batch or not.
func TestCommandsAreCommits(t *testing.T) {
	b := newBook()
	b.meta.Actor, b.meta.Reason, b.meta.Reference = "ann", "delivery", "doc:7"
	b.record(bolts, atBerlin, atParis)
	b.meta = events.Meta{Command: "create-reservations", Digest: "d2", CommandID: "mine"}
	b.record(held)
	m := b.models(t)

	rows := listed(t, m.ListCommands, projections.List{})
	require.Equal(t, []string{
		asJSON(t, projections.Command{
			CommandID: "command-1", Name: "adjust-inventory-levels", Digest: "d1", Position: 3, First: 1, Events: 3,
			Actor: "ann", Reason: "delivery", Reference: "doc:7", Recorded: at(1), Effective: at(1),
		}),
		asJSON(t, projections.Command{CommandID: "mine", Name: "create-reservations", Digest: "d2", Position: 4, First: 4, Events: 1, Recorded: at(2), Effective: at(2)}),
	}, rows)
}

// Every movement with what it moved and what it came to; a pair for a move, none
// for a reservation that is only described.
func TestMovements(t *testing.T) {
	b := newBook()
	b.record(bolts)
	b.record(atBerlin, atParis)
	b.meta.Actor, b.meta.Reason, b.meta.Reference, b.meta.Correlation = "ann", "sale", "doc:1", "order-1"
	b.meta.Effective = start.Add(-time.Hour)
	b.record(held)
	b.meta = events.Meta{Command: "update-reservations"}
	b.record(events.ReservationUpdated{
		ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1", From: units(4),
		Quantity: units(4), Details: events.ReservationDetails{Description: new("only words")}, Stocked: units(10), Reserved: units(4),
	})
	b.record(events.ReservationUpdated{
		ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1", From: units(4),
		Quantity: units(1), Stocked: units(10), Reserved: units(1),
	})
	b.record(events.ReservationMoved{
		ItemID: "bolts", ReservationID: "r1", Quantity: units(1),
		FromLevelID: "lev-b", FromLocationID: "berlin", FromStocked: units(10),
		LevelID: "lev-p", LocationID: "paris", Stocked: qty("1.5"), Reserved: units(1),
	})
	b.record(events.ReservationFulfilled{
		ItemID: "bolts", LevelID: "lev-p", LocationID: "paris",
		ReservationID: "r1", Quantity: units(1), Stocked: qty("0.5"),
	})
	b.record(berlinGone)

	page, err := b.models(t).StockHistory(t.Context(), projections.History{ItemID: projections.Names{"bolts"}})
	require.NoError(t, err)
	var got []string
	for _, r := range page.Rows {
		delta := func(q *events.Quantity) string {
			if q == nil {
				return "·"
			}
			return q.String()
		}
		got = append(got, r.Kind+" "+r.LocationID+" moved "+delta(r.DeltaStocked)+" "+delta(r.DeltaReserved)+" "+delta(r.DeltaIncoming)+
			" level "+r.Stocked.String()+" "+r.Reserved.String()+" "+r.Incoming.String()+
			" item "+r.RunningStocked.String()+" "+r.RunningReserved.String())
	}
	require.Equal(t, []string{
		"level-created berlin moved 10 · 2 level 10 0 2 item 10 0",
		"level-created paris moved 1.5 · · level 1.5 0 0 item 11.5 0",
		"reservation-created berlin moved · 4 · level 10 4 2 item 11.5 4",
		"reservation-updated berlin moved · -3 · level 10 1 2 item 11.5 1",
		"reservation-moved berlin moved · -1 · level 10 0 2 item 11.5 0",
		"reservation-moved paris moved · 1 · level 1.5 1 0 item 11.5 1",
		"reservation-fulfilled paris moved -1 -1 · level 0.5 0 0 item 10.5 0",
		"level-deleted berlin moved -10 · -2 level 0 0 0 item 0.5 0",
	}, got)

	sale := page.Rows[2]
	require.Equal(t, uint64(4), sale.Position)
	require.Equal(t, at(3), sale.Recorded)
	require.Equal(t, start.Add(-time.Hour), sale.Effective)
	require.Equal(t, []string{"ann", "sale", "doc:1", "adjust-inventory-levels", "command-3", "order-1", "r1"},
		[]string{sale.Actor, sale.Reason, sale.Reference, sale.Command, sale.CommandID, sale.Correlation, *sale.ReservationID})
}
