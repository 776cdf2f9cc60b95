package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// aboutTimes ends the help of what takes a time.
const aboutTimes = `Times: 2010-12-03T12:00Z, 2010-12-03T12:00:00+01:00; 2010-12-03 (its first moment), 2010-12-03T12:00; now, today, yesterday,
"yesterday 17:30", "last monday", "2h ago", "3 days ago". What has no zone is in that of this machine. The answer says which instant that is.`

type asOf struct {
	ofItem
	Level string `placeholder:"ID" help:"Only that level."`
	At    string `placeholder:"TIME" help:"The time."`
	On    string `name:"location" placeholder:"ID" help:"Everything at that location; no item is named then."`
	Clock string `enum:"recorded,effective" default:"recorded" placeholder:"recorded|effective" help:"What the ledger had recorded by then, or what had happened by then, as is known now."`

	Position uint64 `placeholder:"N" help:"The position in the log, instead of a time."`
	Take     int    `default:"50" help:"How many levels of a location, up to 1000."`
	All      bool   `help:"All levels of a location, however many; with --json each on a line."`
	JSON     bool   `help:"Answer in JSON."`
	watching
	reach
}

// Help implements kong.HelpProvider.
func (asOf) Help() string {
	return `Two clocks: --clock recorded is what the ledger would have answered then. --clock effective leaves out nothing that was reported
late, and counts everything from when it happened.

` + aboutTimes + `

Examples:

    stockledger as-of mug --at yesterday
    stockledger as-of mug paris --at 2010-12-03T12:00Z --clock effective
    stockledger as-of --location paris --at 2026-01-01 --clock effective --all --json
    stockledger as-of mug --position 2148`
}

// Run shows what was.
func (c *asOf) Run(ctx context.Context, s streams) error {
	if err := c.check(); err != nil {
		return err
	}
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.find(ctx, conn); err != nil {
		return err
	}
	if c.All {
		question, err := c.question()
		if err != nil {
			return err
		}
		return c.walk(ctx, s, conn, question)
	}
	return c.Watch.show(ctx, s, conn, watched{passing: clockTicks, show: func(ctx context.Context, w io.Writer, after uint64) error {
		question, err := c.question()
		if err != nil {
			return err
		}
		if after > 0 {
			question["after"] = after
		}
		document, err := ask[json.RawMessage](ctx, conn, "as-of", question)
		if err != nil {
			return err
		}
		if c.JSON {
			return c.Watch.printJSON(w, document)
		}
		var was past
		if err := json.Unmarshal(document, &was); err != nil {
			return fmt.Errorf("answer to as-of: %w", err)
		}
		was.show(w, c.what())
		return nil
	}})
}

func (c *asOf) check() error {
	switch {
	case c.Item == "" && c.Level == "" && c.On == "":
		return errors.New("of what? name an item, an item and a location, --level ID or --location ID")
	case c.Item != "" && c.Level != "", c.On != "" && c.Level != "":
		return errors.New("--level names a level by itself; leave the item and the location out")
	case c.Location != "" && c.On != "":
		return errors.New("the location is named twice, as an argument and with --location")
	case c.All && c.Watch.given:
		return errors.New("--all and --watch: give one of the two")
	case c.At == "" && c.Position == 0:
		return errors.New("as of when? give --at TIME or --position N")
	case c.Position > 0 && c.Clock == "effective":
		return errors.New("--clock effective needs --at TIME: positions are on the clock of the record")
	}
	return atOrPosition(c.At, c.Position)
}

func atOrPosition(at string, position uint64) error {
	switch {
	case at != "" && position > 0:
		return errors.New("a time and --position N: give one of the two")
	case position > lastPosition:
		return fmt.Errorf("--position %d is beyond the end of every log; stockledger status has the head of this one", position)
	}
	return nil
}

// clockTicks are what differs between two answers though nothing moved.
var clockTicks = regexp.MustCompile(`(?m)^as of .*$|"(at|position)":("[^"]*"|null|\d+),`)

// question is what the ledger is asked.
func (c *asOf) question() (object, error) {
	q := selectors(c.Item, cmp.Or(c.Location, c.On), c.Level)
	if c.Clock == "effective" {
		q["clock"] = c.Clock
	}
	if c.wholeLocation() {
		q["take"] = c.Take
	}
	if c.Position > 0 {
		q["position"] = c.Position
		return q, nil
	}
	return q, bounds(q, bound{"--at", c.At, "at"})
}

// selectors name an item, a location or a level to the ledger.
func selectors(item, location, level string) object {
	q := object{}
	for name, value := range map[string]string{"inventory_item_id": item, "location_id": location, "level_id": level} {
		if value != "" {
			q[name] = value
		}
	}
	return q
}

func (c *asOf) wholeLocation() bool { return c.Item == "" && c.Level == "" }

// what was asked for, in words; "" for a whole location.
func (c *asOf) what() string {
	switch {
	case c.wholeLocation():
		return ""
	case c.Level != "":
		return "level " + c.Level
	case cmp.Or(c.Location, c.On) != "":
		return c.Item + " at " + cmp.Or(c.Location, c.On)
	}
	return c.Item
}

// A past is what was.
type past struct {
	Clock     string           `json:"clock"`
	At        *string          `json:"at"`
	Position  uint64           `json:"position"`
	Stocked   *events.Quantity `json:"stocked_quantity"`
	Reserved  *events.Quantity `json:"reserved_quantity"`
	Available *events.Quantity `json:"available_quantity"`
	Levels    []row            `json:"levels"`
	Next      *string          `json:"next"`
}

// show prints what was; what it is the past of is "" for a whole location.
func (p past) show(w io.Writer, what string) {
	fmt.Fprintln(w, p.title())
	if len(p.Levels) > 0 {
		fmt.Fprintln(w)
		printTable(w, pastColumns(), p.Levels)
		fmt.Fprintln(w)
	}
	switch {
	case what == "" && p.Next != nil:
		fmt.Fprintf(w, "the first %s; --all shows all\n", several(len(p.Levels), "level"))
	case what == "":
		fmt.Fprintln(w, several(len(p.Levels), "level"))
	case len(p.Levels) == 0:
		fmt.Fprintf(w, "there was no level of %s then\n", what)
	case p.Stocked != nil && p.Reserved != nil && p.Available != nil:
		fmt.Fprintf(w, "%s: %s stocked, %s reserved, %s available\n", what, p.Stocked, p.Reserved, p.Available)
	}
}

// title is when that was, on which clock.
func (p past) title() string {
	var b strings.Builder
	b.WriteString("as of ")
	if p.At != nil {
		fmt.Fprintf(&b, "%s, %s clock, ", *p.At, p.Clock)
	}
	fmt.Fprintf(&b, "position %d", p.Position)
	return b.String()
}

func pastColumns() []column {
	return []column{
		col("ITEM", "inventory_item_id"), col("LOCATION", "location_id"),
		num("STOCKED", "stocked_quantity"), num("RESERVED", "reserved_quantity"), num("AVAILABLE", "available_quantity"),
		num("INCOMING", "incoming_quantity"), col("LEVEL", "level_id"),
		{header: "LAST POSITION", right: true, value: func(r row) string {
			return strings.TrimPrefix(r.text("last_position"), "0") // 0 is that all of it was recorded later
		}},
	}
}

// walk shows all levels of a location as they come.
func (c *asOf) walk(ctx context.Context, s streams, l ledger, question object) error {
	if !c.wholeLocation() {
		return errors.New("--all is for a whole location, --location ID; of an item everything is shown anyway")
	}
	params := maps.Clone(question)
	params["take"] = pageSize
	t := table{w: s.out, columns: pastColumns()}
	bar := progressBeside(s)
	bar.begin("levels", -1)
	defer bar.end()
	for n := 0; ; {
		document, err := ask[json.RawMessage](ctx, l, "as-of", params)
		if err != nil {
			return err
		}
		var part past
		if err := json.Unmarshal(document, &part); err != nil {
			return fmt.Errorf("answer to as-of: %w", err)
		}
		if n == 0 && !c.JSON {
			fmt.Fprintf(s.out, "%s\n\n", part.title())
		}
		if c.JSON {
			err = printRows(s.out, document, "levels")
		} else {
			t.print(part.Levels)
		}
		if err != nil {
			return err
		}
		n += len(part.Levels)
		bar.add(len(part.Levels))
		if part.Next == nil {
			if !c.JSON {
				fmt.Fprintf(s.out, "\n%s\n", several(n, "level"))
			}
			return nil
		}
		params["cursor"] = *part.Next
	}
}
