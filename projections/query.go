package projections

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// patience is how long a query waits at most for the position it names in after.
const patience = 5 * time.Second

// longest is how long an answer may take, but for the wait for what it names in
// after. A page that an index leads to takes milliseconds. What takes longer than
// this is the work of one of a few readers, for which everybody else waits.
const longest = 15 * time.Second

// recallMost is how long a body is at most for Recall, in bytes. What that does not
// answer is decoded twice, and its caller may have others wait meanwhile.
const recallMost = 4 << 10

// A query answers one name.
type query struct {
	QueryShape
	run func(ctx context.Context, m *Models, body []byte) (any, error)
	// recall answers from memory, if the answer is there; nil is that it never is.
	recall func(m *Models, body []byte) (answer any, found bool)
}

// A QueryShape describes a query.
type QueryShape struct {
	About         string // one line
	Asked, Answer any    // values of the types that the parameters and the answer are read into, and made of
	Selectors     bool   // names of fields may stand beside the parameters
}

// queries are all there are, by name.
var queries = joined(inventoryQueries, auditQueries)

func joined(all ...map[string]query) map[string]query {
	together := make(map[string]query)
	for _, some := range all {
		maps.Copy(together, some)
	}
	return together
}

// A source is which of the models a query is answered from.
type source int

const (
	ofInventory source = iota
	ofMovements
	sources
)

// QueryNames are the names that Query knows, each with a line on what it answers.
func QueryNames() map[string]string {
	names := make(map[string]string, len(queries))
	for name, q := range queries {
		names[name] = q.About
	}
	return names
}

// QueryShapes describes the queries that Query knows, by name. They all take
// "after", too.
func QueryShapes() map[string]QueryShape {
	shapes := make(map[string]QueryShape, len(queries))
	for name, q := range queries {
		shapes[name] = q.QueryShape
	}
	return shapes
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

// Recall answers a query as Query does, when the whole answer is in memory and
// contains the position asked for: it neither reads a file nor waits. Otherwise,
// and whatever is wrong with the query, it finds nothing, and Query is to be asked.
func (m *Models) Recall(name string, body []byte) (answer any, found bool) {
	if q := queries[name]; q.recall != nil && len(body) <= recallMost {
		return q.recall(m, body)
	}
	return nil, false
}

// A params is what a query is asked with.
type params interface{ check() error }

// A joining is the parameters of a query that may need another model, too.
type joining interface{ also() []source }

// ask makes a query of parameters of type P, answered from one of the models, and
// from those that the parameters join to it.
func ask[P params, R any](about string, of source, answer func(context.Context, *Models, P) (R, error)) query {
	return query{QueryShape: QueryShape{about, *new(P), *new(R), false}, run: func(ctx context.Context, m *Models, body []byte) (any, error) {
		after, asked, err := decode[P](body)
		if err != nil {
			return nil, err
		}
		needed := []source{of}
		if more, ok := any(asked).(joining); ok {
			needed = append(needed, more.also()...)
		}
		if err := m.catchUp(ctx, after, needed...); err != nil {
			return nil, err
		}
		result, err := within(ctx, m.longest, func(ctx context.Context) (R, error) { return answer(ctx, m, asked) })
		if err != nil {
			return nil, err
		}
		return result, nil
	}}
}

// remembering is a query of quantities that recalls its answer from the levels of
// the item, when they are in memory.
func remembering[P params](q query, recall func(P) (item string, answer func(*itemLevels) any)) query {
	q.recall = func(m *Models, body []byte) (any, bool) {
		after, asked, err := decode[P](body)
		if err != nil {
			return nil, false
		}
		item, answer := recall(asked)
		if found := m.recallLevels(item, after); found != nil {
			return answer(found), true
		}
		return nil, false
	}
	return q
}

// strict is how queries are read.
var strict = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFunc(events.ReadAsked)))

// decode reads the parameters of a query, and the position it asks for.
func decode[P params](body []byte) (after uint64, of P, err error) {
	var asked struct {
		After uint64 `json:"after"`
		Of    P      `json:",embed"`
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if err := json.Unmarshal(body, &asked, strict); err != nil {
		return 0, of, decodeFault(err)
	}
	return asked.After, asked.Of, asked.Of.check()
}

// within bounds the time that an answer takes.
func within[R any](ctx context.Context, longest time.Duration, answer func(context.Context) (R, error)) (R, error) {
	tooLong := fault.New(fault.Unavailable, "query_too_long",
		"there was no answer within %s; ask for less: narrow it by an indexed field, leave the count out, or go on by a cursor instead of skip", longest).
		With("seconds", longest.Seconds())
	ctx, cancel := context.WithTimeoutCause(ctx, longest, tooLong)
	defer cancel()
	result, err := answer(ctx)
	if _, told := errors.AsType[*fault.Error](err); err != nil && !told && errors.Is(context.Cause(ctx), tooLong) {
		return result, tooLong
	}
	return result, err
}

// catchUp waits until a position is in the answers from models.
func (m *Models) catchUp(ctx context.Context, after uint64, of ...source) error {
	if after == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return m.waitFor(ctx, after, of...)
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

// sums is the query for a quantity, which is made of what is stocked and what is
// reserved when the levels of the item are in memory.
func sums(about string, of func(*Models, context.Context, string, []string) (events.Quantity, error),
	made func(stocked, reserved events.Quantity) events.Quantity,
) query {
	q := ask(about, ofInventory, func(ctx context.Context, m *Models, p places) (Sum, error) {
		q, err := of(m, ctx, p.ItemID, p.LocationIDs)
		return Sum{q}, err
	})
	return remembering(q, func(p places) (string, func(*itemLevels) any) {
		return p.ItemID, func(found *itemLevels) any { return Sum{made(found.sum(p.LocationIDs))} }
	})
}

func required(field, value string) error {
	if value == "" {
		return fault.New(fault.Invalid, "required", "Field '%s' is required", field).With("field", field)
	}
	return nil
}

// decodeFault says in the words of every transport why a body cannot be read.
func decodeFault(err error) error {
	refused := fault.Unreadable(err)
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok && errors.Is(err, events.ErrQuantity) {
		field := refused.Details["field"]
		return fault.New(fault.Invalid, "invalid_quantity", "Field '%s': %v", field, semantic.Err).With("field", field)
	}
	return refused
}
