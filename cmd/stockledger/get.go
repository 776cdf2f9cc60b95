package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/refusals"
	"github.com/stockledger/stockledger/projections"
)

type get struct {
	Items        listItems        `cmd:"" help:"Items, by id."`
	Levels       listLevels       `cmd:"" help:"Levels: what is stocked, reserved and available of an item at a location."`
	Reservations listReservations `cmd:"" help:"Reservations, by id."`
	Links        listLinks        `cmd:"" help:"What variants are made of, by variant."`
	Variants     variants         `cmd:"" help:"How many of a variant can be had, from what its items have available."`
	Locations    listLocations    `cmd:"" help:"Stock locations, by id."`
	Commands     listCarriedOut   `cmd:"" help:"Commands that were carried out, by idempotency key."`
	Refusals     listRefusals     `cmd:"" help:"Commands that were refused: who, what, when, why."`
	Query        askQuery         `cmd:"" help:"Any query, by its name, answered in JSON."`
	reach
}

// Help implements kong.HelpProvider.
func (get) Help() string {
	return `Filters are arguments:

    sku=MUG-1                               equal; text is compared letter by letter
    inventory_item_id=mug,cup               one of
    sku=null                                without a value
    'available_quantity<5'                  also <= > >= !=; quote them, or the shell takes them for its own
    title~mug                               contains, in capitals or not
    'created_at>=yesterday'                 times as in stockledger as-of --help
    location_levels.location_id=paris       of the levels of an item
    sku:='{"$in":["a","b"]}'                any condition of the query, in JSON

Examples:

    stockledger get levels location_id=paris 'available_quantity<5' --order available_quantity
    stockledger get items mug cup --json
    stockledger get items --q mug --fields id,sku,available_quantity
    stockledger get reservations --all --json > reservations.jsonl
    stockledger get levels inventory_item_id=mug --watch
    stockledger get commands actor=ann --order -position --take 10
    stockledger get refusals code=insufficient_stock --since yesterday
    stockledger get query confirm-inventory '{"inventory_item_id":"mug","location_ids":["paris"],"quantity":3}'`
}

// listing are the flags of every list.
type listing struct {
	Filters     []string `arg:"" optional:"" name:"filter" help:"Ids, or filters such as sku=MUG-1 or 'available_quantity<5'."`
	Where       []string `sep:"none" placeholder:"FILTER" help:"A filter whose value is taken as it is, also with commas."`
	Q           string   `name:"q" placeholder:"TEXT" help:"Only rows that have the text in one of the fields that people read."`
	Order       ordering `placeholder:"FIELD" help:"Sort by a field; -FIELD for the largest first. Repeat it for more."`
	Fields      []string `placeholder:"FIELD" help:"Only those fields, with commas between."`
	Relations   []string `placeholder:"NAME" help:"With the rows that belong to each, such as location_levels; shown by --json."`
	WithDeleted bool     `aliases:"deleted" help:"Deleted rows too."`
	Take        int      `default:"50" help:"How many rows at most, up to 1000."`
	Skip        int      `help:"Pass over the first rows."`
	Cursor      string   `help:"Go on after a page: what it has under next."`
	All         bool     `help:"All rows, however many; with --json each on a line."`
	After       uint64   `placeholder:"POSITION" help:"Wait until the answer contains that position."`
	JSON        bool     `help:"Answer in JSON."`
	watching
}

// An ordering is fields to sort by, each of which may have a sign that would look
// like a flag to kong.
type ordering []string

// Decode implements kong.MapperValue.
func (o *ordering) Decode(ctx *kong.DecodeContext) error {
	token := ctx.Scan.Pop()
	text := token.String()
	if token.Type == kong.EOLToken || text == "" || strings.HasPrefix(text, "--") {
		return errors.New("by which field?")
	}
	*o = append(*o, strings.Split(text, ",")...)
	return nil
}

// A list is what can be listed: how it is called, the query, and the field that
// arguments without an operator are compared with.
type list struct{ shape, query, id string }

type (
	listItems        struct{ listing }
	listLevels       struct{ listing }
	listReservations struct{ listing }
	listLinks        struct{ listing }
	listLocations    struct{ listing }
	listCarriedOut   struct{ listing }
)

// Run lists items.
func (l *listItems) Run(ctx context.Context, s streams, at *get) error {
	return l.run(ctx, s, at.reach, list{"items", "list-inventory-items", "id"})
}

// Run lists levels.
func (l *listLevels) Run(ctx context.Context, s streams, at *get) error {
	return l.run(ctx, s, at.reach, list{"levels", "list-inventory-levels", "id"})
}

// Run lists reservations.
func (l *listReservations) Run(ctx context.Context, s streams, at *get) error {
	return l.run(ctx, s, at.reach, list{"reservations", "list-reservation-items", "id"})
}

// Run lists links.
func (l *listLinks) Run(ctx context.Context, s streams, at *get) error {
	return l.run(ctx, s, at.reach, list{"links", "list-inventory-links", "variant_id"})
}

// Run lists locations.
func (l *listLocations) Run(ctx context.Context, s streams, at *get) error {
	return l.run(ctx, s, at.reach, list{"locations", "list-stock-locations", "id"})
}

// Run lists commands.
func (l *listCarriedOut) Run(ctx context.Context, s streams, at *get) error {
	return l.run(ctx, s, at.reach, list{"commands", "list-commands", "command_id"})
}

// A page is one page of a list.
type page struct {
	Rows  []row   `json:"rows"`
	Count *uint64 `json:"count"` // of all pages; nil when the list is not counted
	Next  *string `json:"next"`  // the cursor of the page that follows
}

// total is how many rows all pages have, if they were counted.
func (p page) total() uint64 {
	if p.Count == nil {
		return 0
	}
	return *p.Count
}

// run asks for the rows and prints them.
func (l *listing) run(ctx context.Context, s streams, at reach, of list) error {
	return l.show(ctx, s, at, of, func() (object, error) { return l.params(of.id) })
}

// show prints the rows that a question is for. It is put again for each look, as
// times in it may be relative to now.
func (l *listing) show(ctx context.Context, s streams, at reach, of list, question func() (object, error)) error {
	params, err := question()
	if err != nil {
		return err
	}
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if l.All {
		err = l.walk(ctx, s, conn, of, params)
	} else {
		err = l.Watch.show(ctx, s, conn, watched{after: l.After, show: func(ctx context.Context, w io.Writer, after uint64) error {
			params, err := question()
			if err != nil {
				return err
			}
			return l.onePage(ctx, w, conn, of, params, after)
		}})
	}
	return hintFields(ctx, s.err, conn, of, l.JSON, err)
}

// onePage prints a page of the list.
func (l *listing) onePage(ctx context.Context, w io.Writer, conn ledger, of list, params object, after uint64) error {
	if after > 0 {
		params["after"] = after
	}
	document, err := ask[json.RawMessage](ctx, conn, of.query, params)
	if err != nil {
		return err
	}
	if l.JSON {
		return l.Watch.printJSON(w, document)
	}
	var p page
	if err := json.Unmarshal(document, &p); err != nil {
		return fmt.Errorf("answer to %s: %w", of.query, err)
	}
	if len(p.Rows) > 0 {
		printTable(w, l.columns(of, p.Rows), p.Rows)
	}
	fmt.Fprintln(w, p.shown(of.shape, l.Skip, l.Cursor != ""))
	return nil
}

func (l *listing) columns(of list, rows []row) []column {
	if len(l.Fields) > 0 {
		return named(l.Fields, rows)
	}
	return shapes[of.shape]
}

// shown says which part of the list this is, and how to get more of it.
func (p page) shown(shape string, skip int, continued bool) string {
	n, thing := len(p.Rows), strings.TrimSuffix(shape, "s")
	switch {
	case p.Count == nil && p.Next == nil:
		return several(n, thing)
	case p.Count == nil:
		return fmt.Sprintf("%s, and there are more; --all shows them", several(n, thing))
	case *p.Count == 0:
		return "no " + shape
	case n == 0:
		return fmt.Sprintf("none of %d %s", *p.Count, shape)
	case uint64(n) == *p.Count:
		return several(n, thing)
	}
	part := fmt.Sprintf("%d to %d of %d %s", skip+1, skip+n, *p.Count, shape)
	if continued {
		part = fmt.Sprintf("%d of %d %s", n, *p.Count, shape)
	}
	if p.Next == nil {
		return part
	}
	return fmt.Sprintf("%s; --skip %d has the next, --all all of them", part, skip+n)
}

// pageSize is how many rows are asked for at a time when all are wanted.
const pageSize = 1000

// walk prints all rows as they come.
func (l *listing) walk(ctx context.Context, s streams, conn ledger, of list, params object) error {
	if l.Watch.given {
		return errors.New("--all and --watch: give one of the two")
	}
	if l.After > 0 {
		params["after"] = l.After
	}
	params["take"] = pageSize
	var t *table
	p := progressBeside(s)
	defer p.end()
	printed := 0
	for first := true; ; first = false {
		document, err := ask[json.RawMessage](ctx, conn, of.query, params)
		if err != nil {
			return err
		}
		var part page
		if err := json.Unmarshal(document, &part); err != nil {
			return fmt.Errorf("answer to %s: %w", of.query, err)
		}
		if first {
			total := -1
			if part.Count != nil {
				total = int(part.total()) //nolint:gosec // G115: rows of one file
			}
			p.begin(of.shape, total)
			t = &table{w: s.out, columns: l.columns(of, part.Rows)}
		}
		if l.JSON {
			err = printRows(s.out, document, "rows")
		} else if len(part.Rows) > 0 {
			t.print(part.Rows)
		}
		if err != nil {
			return err
		}
		printed += len(part.Rows)
		p.add(len(part.Rows))
		if part.Next == nil {
			break
		}
		delete(params, "skip")
		if part.Count != nil {
			params["count"] = false // once is enough
		}
		params["cursor"] = *part.Next
	}
	if !l.JSON {
		fmt.Fprintln(s.out, several(printed, strings.TrimSuffix(of.shape, "s")))
	}
	return nil
}

// params is what the list is asked with.
func (l *listing) params(id string) (object, error) {
	params := object{"take": l.Take}
	for _, given := range []struct {
		name  string
		value any
		found bool
	}{
		{"skip", l.Skip, l.Skip != 0},
		{"with_deleted", true, l.WithDeleted},
		{"q", l.Q, l.Q != ""},
		{"order", []string(l.Order), len(l.Order) > 0},
		{"fields", l.Fields, len(l.Fields) > 0},
		{"relations", l.Relations, len(l.Relations) > 0},
		{"cursor", l.Cursor, l.Cursor != ""},
	} {
		if given.found {
			params[given.name] = given.value
		}
	}
	f, err := l.filters(id)
	if err != nil {
		return nil, err
	}
	return params, f.into(params)
}

// filters are the conditions on the rows. Arguments without an operator are ids.
func (l *listing) filters(id string) (f filters, err error) {
	var ids []any
	for _, argument := range l.Filters {
		if !isFilter(argument) {
			ids = append(ids, argument)
		} else if err := f.add(argument, false); err != nil {
			return f, err
		}
	}
	for _, text := range l.Where {
		if err := f.add(text, true); err != nil {
			return f, fmt.Errorf("--where %w", err)
		}
	}
	if len(ids) == 0 {
		return f, nil
	}
	if _, twice := f.fields[id]; twice {
		return f, fmt.Errorf("rows are chosen by %s twice, as arguments and by a filter", id)
	}
	f.of(id).equal = ids
	return f, nil
}

// hintFields lists the fields that rows have, when the ledger did not know one, or
// cannot sort by it.
func hintFields(ctx context.Context, w io.Writer, conn ledger, of list, asJSON bool, err error) error {
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok || refusal.Code != "unknown_field" && refusal.Code != "invalid_order" || asJSON {
		return err
	}
	p, failed := ask[page](ctx, conn, of.query, object{"take": 1})
	if failed != nil || len(p.Rows) == 0 {
		return err
	}
	names, field := slices.Sorted(maps.Keys(p.Rows[0])), fmt.Sprint(cmp.Or(refusal.Details["column"], refusal.Details["field"]))
	if near := nearest(field, names); near != "" && near != field {
		fmt.Fprintf(w, "stockledger: %s have no field %q; did you mean %s?\n", of.shape, field, near)
	}
	fmt.Fprintf(w, "stockledger: the fields of %s are %s\n", of.shape, strings.Join(names, ", "))
	return err
}

type askQuery struct {
	Name string `arg:"" optional:"" help:"The query, such as confirm-inventory; left out, the queries are listed."`
	Body string `arg:"" optional:"" default:"{}" help:"Its parameters as a JSON object, or - to read them from the standard input."`
}

// Help implements kong.HelpProvider.
func (askQuery) Help() string {
	return `Example:

    stockledger get query retrieve-inventory-level '{"inventory_item_id":"mug","location_id":"paris"}'`
}

// Run asks any query and prints the answer as it is.
func (q *askQuery) Run(ctx context.Context, s streams, at *get) error {
	names := queryNames()
	if q.Name == "" {
		return printQueries(s, names)
	}
	body, err := bodyFrom(q.Body, s.in)
	if err != nil {
		return err
	}
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := conn.Query(ctx, q.Name, body)
	if err != nil {
		if _, known := names[q.Name]; !known {
			fmt.Fprintf(s.err, "stockledger: %v\n", unknown("query", q.Name, slices.Sorted(maps.Keys(names)), "stockledger get query has them all"))
		}
		return err
	}
	return printJSON(s.out, answer)
}

// queryNames are the queries there are, each with a line on what it answers.
func queryNames() map[string]string {
	names := projections.QueryNames()
	maps.Copy(names, refusals.QueryNames())
	names[statusQuery] = statusAbout
	return names
}

func printQueries(s streams, names map[string]string) error {
	var rows []row
	for _, name := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, row{"name": quoted(name), "about": quoted(names[name])})
	}
	printTable(s.out, []column{col("QUERY", "name"), col("WHAT IT ANSWERS", "about")}, rows)
	return nil
}
