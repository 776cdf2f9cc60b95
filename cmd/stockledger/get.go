package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/projections"
)

type get struct {
	Items        listItems        `cmd:"" help:"Items, by id."`
	Levels       listLevels       `cmd:"" help:"Levels: what is stocked, reserved and available of an item at a location."`
	Reservations listReservations `cmd:"" help:"Reservations, by id."`
	Links        listLinks        `cmd:"" help:"What variants are made of, by variant."`
	Locations    listLocations    `cmd:"" help:"Stock locations, by id."`
	Commands     listCarriedOut   `cmd:"" help:"Commands that were carried out, by idempotency key."`
	Query        askQuery         `cmd:"" help:"Any query, by its name, answered in JSON."`
	reach
}

// Help implements kong.HelpProvider.
func (get) Help() string {
	return `Examples:

    stockledger get levels --where inventory_item_id=mug
    stockledger get items mug cup --json
    stockledger get commands --where actor=ann --take 10
    stockledger get query confirm-inventory '{"inventory_item_id":"mug","location_ids":["paris"],"quantity":3}'`
}

// listing are the flags of every list.
type listing struct {
	IDs     []string `arg:"" optional:"" name:"id" help:"Only those."`
	Where   []string `sep:"none" placeholder:"NAME=VALUE" help:"Only rows with that value; several for one name: one of them. NAME:=JSON for true, false, null and numbers."`
	Skip    int      `help:"Pass over the first rows."`
	Take    int      `default:"50" help:"How many rows at most, up to 1000."`
	Deleted bool     `help:"Deleted rows too."`
	After   uint64   `placeholder:"POSITION" help:"Wait until the answer contains that position."`
	JSON    bool     `help:"Answer in JSON."`
}

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
	return l.list(ctx, s, at.reach, "items", "list-inventory-items", "id")
}

// Run lists levels.
func (l *listLevels) Run(ctx context.Context, s streams, at *get) error {
	return l.list(ctx, s, at.reach, "levels", "list-inventory-levels", "id")
}

// Run lists reservations.
func (l *listReservations) Run(ctx context.Context, s streams, at *get) error {
	return l.list(ctx, s, at.reach, "reservations", "list-reservation-items", "id")
}

// Run lists links.
func (l *listLinks) Run(ctx context.Context, s streams, at *get) error {
	return l.list(ctx, s, at.reach, "links", "list-inventory-links", "variant_id")
}

// Run lists locations.
func (l *listLocations) Run(ctx context.Context, s streams, at *get) error {
	return l.list(ctx, s, at.reach, "locations", "list-stock-locations", "id")
}

// Run lists commands.
func (l *listCarriedOut) Run(ctx context.Context, s streams, at *get) error {
	return l.list(ctx, s, at.reach, "commands", "list-commands", "command_id")
}

// A page is one page of a list.
type page struct {
	Rows  []row  `json:"rows"`
	Count uint64 `json:"count"`
}

// list asks for the rows and prints them.
func (l *listing) list(ctx context.Context, s streams, at reach, shape, query, id string) error {
	params, err := l.params(id)
	if err != nil {
		return err
	}
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, at.Timeout)
	defer cancel()
	document, err := ask[json.RawMessage](ctx, conn, query, params)
	if err != nil {
		return err
	}
	if l.JSON {
		return printJSON(s.out, document)
	}
	var p page
	if err := json.Unmarshal(document, &p); err != nil {
		return fmt.Errorf("answer to %s: %w", query, err)
	}
	if len(p.Rows) > 0 {
		printTable(s.out, shapes[shape], p.Rows)
	}
	fmt.Fprintln(s.out, p.shown(shape, l.Skip))
	return nil
}

// shown says which part of the list this is.
func (p page) shown(shape string, skip int) string {
	switch n := len(p.Rows); {
	case p.Count == 0:
		return "no " + shape
	case n == 0:
		return fmt.Sprintf("none of %d %s", p.Count, shape)
	case uint64(n) == p.Count:
		return several(n, strings.TrimSuffix(shape, "s"))
	default:
		return fmt.Sprintf("%d to %d of %d %s", skip+1, skip+n, p.Count, shape)
	}
}

// params is what the list is asked with.
func (l *listing) params(id string) (map[string]any, error) {
	params := map[string]any{"skip": l.Skip, "take": l.Take}
	if l.Deleted {
		params["with_deleted"] = true
	}
	if l.After > 0 {
		params["after"] = l.After
	}
	filters, err := parseWhere(l.Where)
	if err != nil {
		return nil, err
	}
	if len(l.IDs) > 0 {
		if _, twice := filters[id]; twice {
			return nil, fmt.Errorf("rows are chosen by %s twice, as arguments and with --where", id)
		}
		filters[id] = l.IDs
	}
	for name, value := range filters {
		if _, taken := params[name]; taken || name == "after" || name == "with_deleted" {
			return nil, fmt.Errorf("--where %s=: there is a flag for that", name)
		}
		params[name] = value
	}
	return params, nil
}

// parseWhere reads conditions: name=text, several of which mean one of the texts,
// and name:=JSON. Text stays text, so that the SKU 71053 is not a number.
func parseWhere(conditions []string) (map[string]any, error) {
	filters := make(map[string]any)
	for _, c := range conditions {
		name, value, found := strings.Cut(c, "=")
		if !found || name == "" || name == ":" {
			return nil, fmt.Errorf("--where %s: write it NAME=VALUE", c)
		}
		if name, isJSON := strings.CutSuffix(name, ":"); isJSON {
			if !json.Valid([]byte(value)) {
				return nil, fmt.Errorf("--where %s: %s is not JSON", c, value)
			}
			filters[name] = json.RawMessage(value)
			continue
		}
		values, _ := filters[name].([]string)
		filters[name] = append(values, value)
	}
	return filters, nil
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
	names := projections.QueryNames()
	names[statusQuery] = statusAbout
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
	ctx, cancel := context.WithTimeout(ctx, at.Timeout)
	defer cancel()
	answer, err := conn.Query(ctx, q.Name, body)
	if err != nil {
		if _, known := names[q.Name]; !known {
			fmt.Fprintf(s.err, "stockledger: %v\n", unknown("query", q.Name, slices.Sorted(maps.Keys(names)), "stockledger get query has them all"))
		}
		return err
	}
	return printJSON(s.out, answer)
}

func printQueries(s streams, names map[string]string) error {
	var rows []row
	for _, name := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, row{"name": quoted(name), "about": quoted(names[name])})
	}
	printTable(s.out, []column{col("QUERY", "name"), col("WHAT IT ANSWERS", "about")}, rows)
	return nil
}
