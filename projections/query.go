package projections

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// patience is how long a query waits at most for the position it names in after.
const patience = 5 * time.Second

// A query answers one name.
type query struct {
	about string
	run   func(ctx context.Context, m *Models, body []byte) (any, error)
}

// queries are all there are, by name.
var queries = map[string]query{
	"retrieve-inventory-item": ask("an item and its levels, by id",
		func(m *Models) []*model { return []*model{m.items, m.levels} },
		func(ctx context.Context, m *Models, p byID) (RetrievedItem, error) { return m.RetrieveItem(ctx, p.ID) }),
	"retrieve-inventory-level": ask("a level, by id, or by inventory_item_id and location_id", ofLevels, retrieveLevel),
	"retrieve-reservation-item": ask("a reservation, by id", ofReservations,
		func(ctx context.Context, m *Models, p byID) (Reservation, error) {
			return m.RetrieveReservation(ctx, p.ID)
		}),
	"retrieve-stock-location": ask("a stock location, by id", ofLocations,
		func(ctx context.Context, m *Models, p byID) (Location, error) { return m.RetrieveLocation(ctx, p.ID) }),
	"retrieve-command": ask("a command that was carried out and its answer, by command_id", ofCommands,
		func(ctx context.Context, m *Models, p byCommand) (AnsweredCommand, error) {
			return m.RetrieveCommand(ctx, p.CommandID)
		}),

	"available-quantity": ask("stocked less reserved of an item over location_ids", ofStock, sum((*Models).AvailableQuantity)),
	"stocked-quantity":   ask("what is in stock of an item over location_ids", ofStock, sum((*Models).StockedQuantity)),
	"reserved-quantity":  ask("what is reserved of an item over location_ids", ofStock, sum((*Models).ReservedQuantity)),
	"confirm-inventory": ask("whether a quantity of an item is available over location_ids", ofStock,
		func(ctx context.Context, m *Models, p confirm) (Confirmation, error) {
			return m.ConfirmInventory(ctx, p.ItemID, p.LocationIDs, *p.Quantity)
		}),

	"list-inventory-items":   ask("items, by their attributes and quantities", ofItems, page((*Models).ListItems)),
	"list-inventory-levels":  ask("levels, by item, location and quantities", ofLevels, page((*Models).ListLevels)),
	"list-reservation-items": ask("reservations, by item, location, line item and more", ofReservations, page((*Models).ListReservations)),
	"list-inventory-links":   ask("which items variants are made of, by variant and item", ofLinks, page((*Models).ListLinks)),
	"list-stock-locations":   ask("stock locations, by id and name", ofLocations, page((*Models).ListLocations)),
	"list-commands":          ask("commands that were carried out, by command, actor, reason and more", ofCommands, page((*Models).ListCommands)),

	"stock-history": ask("every change of quantity of an item, a level, a location or a reservation, with running sums",
		func(m *Models) []*model { return []*model{m.movements} },
		func(ctx context.Context, m *Models, h History) (Movements, error) { return m.StockHistory(ctx, h) }),
}

func ofItems(m *Models) []*model        { return []*model{m.items} }
func ofLevels(m *Models) []*model       { return []*model{m.levels} }
func ofStock(m *Models) []*model        { return []*model{m.items, m.levels} }
func ofReservations(m *Models) []*model { return []*model{m.reservations} }
func ofLinks(m *Models) []*model        { return []*model{m.links} }
func ofLocations(m *Models) []*model    { return []*model{m.locations} }
func ofCommands(m *Models) []*model     { return []*model{m.commands} }

// QueryNames are the names that Query knows, each with a line on what it answers.
func QueryNames() map[string]string {
	names := make(map[string]string, len(queries))
	for name, q := range queries {
		names[name] = q.about
	}
	return names
}

// Query answers the query of that name. Body is a JSON object of its parameters;
// besides those, every query takes "after", a position that must be in the
// answer: the query waits for it, though not for ever, and not at all for one
// beyond the end of the log. The errors that are the
// caller's are [*fault.Error].
func (m *Models) Query(ctx context.Context, name string, body []byte) (any, error) {
	q, known := queries[name]
	if !known {
		return nil, fault.New(fault.NotFound, "unknown_query", "there is no query %q", name).With("query", name)
	}
	return q.run(ctx, m, body)
}

// A params is what a query is asked with.
type params interface{ check() error }

// ask makes a query of parameters of type P, read from the models that reads names.
func ask[P params, R any](
	about string, reads func(*Models) []*model, answer func(context.Context, *Models, P) (R, error),
) query {
	return query{about, func(ctx context.Context, m *Models, body []byte) (any, error) {
		var asked struct {
			After uint64 `json:"after"`
			Of    P      `json:",embed"`
		}
		if len(body) == 0 {
			body = []byte("{}")
		}
		if err := json.Unmarshal(body, &asked, json.RejectUnknownMembers(true)); err != nil {
			return nil, decodeFault(err)
		}
		if err := asked.Of.check(); err != nil {
			return nil, err
		}
		if err := m.catchUp(ctx, asked.After, reads(m)); err != nil {
			return nil, err
		}
		result, err := answer(ctx, m, asked.Of)
		if err != nil {
			return nil, err
		}
		return result, nil
	}}
}

func (m *Models) catchUp(ctx context.Context, after uint64, models []*model) error {
	if after == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return m.waitFor(ctx, after, models...)
}

type byID struct {
	ID string `json:"id"`
}

func (p byID) check() error { return required("id", p.ID) }

type byCommand struct {
	CommandID string `json:"command_id"`
}

func (p byCommand) check() error { return required("command_id", p.CommandID) }

type byPlace struct {
	ID         string `json:"id"`
	ItemID     string `json:"inventory_item_id"`
	LocationID string `json:"location_id"`
}

func (p byPlace) check() error {
	switch {
	case p.ID == "":
		return cmp.Or(required("inventory_item_id", p.ItemID), required("location_id", p.LocationID))
	case p.ItemID != "" || p.LocationID != "":
		return fault.New(fault.Invalid, "invalid_value", "name a level by id, or by inventory_item_id and location_id, not by both").
			With("field", "id")
	}
	return nil
}

func retrieveLevel(ctx context.Context, m *Models, p byPlace) (Level, error) {
	if p.ID != "" {
		return m.RetrieveLevel(ctx, p.ID)
	}
	return m.RetrieveLevelAt(ctx, p.ItemID, p.LocationID)
}

type places struct {
	ItemID      string   `json:"inventory_item_id"`
	LocationIDs []string `json:"location_ids"`
}

func (p places) check() error { return required("inventory_item_id", p.ItemID) }

// Sum is the answer to a question for a quantity.
type Sum struct {
	Quantity events.Quantity `json:"quantity"`
}

func sum(of func(*Models, context.Context, string, []string) (events.Quantity, error)) func(context.Context, *Models, places) (Sum, error) {
	return func(ctx context.Context, m *Models, p places) (Sum, error) {
		q, err := of(m, ctx, p.ItemID, p.LocationIDs)
		return Sum{q}, err
	}
}

type confirm struct {
	ItemID      string           `json:"inventory_item_id"`
	LocationIDs []string         `json:"location_ids"`
	Quantity    *events.Quantity `json:"quantity"`
}

func (p confirm) check() error {
	if err := required("inventory_item_id", p.ItemID); err != nil {
		return err
	}
	if p.Quantity == nil {
		return required("quantity", "")
	}
	return nil
}

func (h History) check() error { return nil }

// listing is a List as JSON has it: the filters stand beside the rest.
type listing struct {
	Skip        int                       `json:"skip"`
	Take        *int                      `json:"take"`
	WithDeleted bool                      `json:"with_deleted"`
	Filter      map[string]jsontext.Value `json:",embed"`
}

func (l listing) check() error { return nil }

func page[T any](of func(*Models, context.Context, List) (Page[T], error)) func(context.Context, *Models, listing) (Page[T], error) {
	return func(ctx context.Context, m *Models, l listing) (Page[T], error) {
		asked := List{Skip: l.Skip, Take: l.Take, WithDeleted: l.WithDeleted, Filter: make(map[string]any, len(l.Filter))}
		for name, value := range l.Filter {
			var err error
			if asked.Filter[name], err = filterValue(name, value); err != nil {
				return Page[T]{}, err
			}
		}
		return of(m, ctx, asked)
	}
}

// filterValue reads a value to compare with. Numbers stay exact.
func filterValue(name string, value jsontext.Value) (any, error) {
	switch value.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return value.Kind() == 't', nil
	case '"':
		var s string
		err := json.Unmarshal(value, &s)
		return s, err
	case '0':
		q, err := events.ParseQuantity(string(value))
		if err != nil {
			return nil, fault.New(fault.Invalid, "invalid_quantity", "Field '%s': %v", name, err).With("field", name)
		}
		return q, nil
	case '[':
		var values []jsontext.Value
		if err := json.Unmarshal(value, &values); err != nil {
			return nil, err
		}
		all := make([]any, len(values))
		for i, one := range values {
			if one.Kind() == '[' || one.Kind() == 'n' {
				return nil, fault.New(fault.Invalid, "invalid_type", "Field '%s': a list may hold values only", name).With("field", name)
			}
			var err error
			if all[i], err = filterValue(name, one); err != nil {
				return nil, err
			}
		}
		return all, nil
	default:
		return nil, fault.New(fault.Invalid, "invalid_type", "Field '%s' takes a value or a list of values", name).With("field", name)
	}
}

func required(field, value string) error {
	if value == "" {
		return fault.New(fault.Invalid, "required", "Field '%s' is required", field).With("field", field)
	}
	return nil
}

// decodeFault says in the words of every transport why a body cannot be read.
func decodeFault(err error) error {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return fault.New(fault.Invalid, "malformed_json", "the body is not well-formed JSON: %v", err)
	}
	field := strings.Join(slices.Collect(semantic.JSONPointer.Tokens()), ".")
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return unknownField(field)
	case errors.Is(err, events.ErrQuantity):
		return fault.New(fault.Invalid, "invalid_quantity", "Field '%s': %v", field, semantic.Err).With("field", field)
	default:
		return fault.New(fault.Invalid, "invalid_type", "Field '%s' cannot be %s", field, semantic.JSONKind).With("field", field)
	}
}
