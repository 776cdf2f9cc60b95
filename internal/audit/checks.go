package audit

import (
	"fmt"
	"slices"
)

// about says of each check what must be so. The order is that of the report.
var about = []Check{
	{Name: "positions", About: "the log has every position from 1 on, and all of it can be read"},
	{Name: "commits", About: "the events of a command are all there, one after the other"},
	{Name: "clock", About: "each command was recorded later than the one before it"},
	{Name: "command ids", About: "no two commits have the same command id"},
	{Name: "chain", About: "each event carries the hash of the one before it in its stream, and its bytes match its own"},
	{Name: "streams", About: "each stream, read by its name, ends with its last event in the log"},
	{Name: "facts", About: "every event can be read, and is in the stream it belongs in"},
	{Name: "quantities", About: "the quantities that events state follow from what was before"},
	{Name: "history", About: "each event can follow what came before it"},
	{Name: "limits", About: "nothing is reserved or announced below zero, by any event"},
	{Name: "models", About: "the read models run, and can be read"},
}

// aboutServed says the same of the rows that are served, whatever the books say.
var aboutServed = []Check{
	{Name: "available", About: "available is stocked less reserved, of every level and of every item"},
	{Name: "totals", About: "an item's totals are the sums of its live levels"},
	{Name: "reserved", About: "what is reserved at a level is the sum of its live reservations"},
	{Name: "movements", About: "the movements of a level add up to what it holds"},
	{Name: "one level", About: "an item has one live level at a location at most"},
	{Name: "not negative", About: "nothing is reserved, announced, held or required below zero"},
	{Name: "commands", About: "there is one row for each commit"},
	{Name: "backdated sums", About: "the sums of backdated movements add up"},
	{Name: "files", About: "SQLite finds every page and every index of the read models as it should be"},
}

// rowsCheck is the check of a table.
func rowsCheck(s *sheet) Check {
	return Check{Name: s.name(), About: "the rows of " + s.table + " are what the events say"}
}

// checks counts what was looked at, and keeps what was found.
type checks struct {
	byName map[string]*Check
	order  []string
	most   int // findings of a check to keep; below 0 all
	found  []Finding
	kept   map[string]int
}

func newChecks(most int, withRows bool) *checks {
	c := &checks{byName: make(map[string]*Check), most: most, kept: make(map[string]int)}
	all := slices.Clone(about)
	if withRows {
		for _, s := range sheets {
			if s != &bucketsSheet {
				all = append(all, rowsCheck(s))
			}
		}
		all = append(all, aboutServed...)
	}
	for _, check := range all {
		c.byName[check.Name] = &check
		c.order = append(c.order, check.Name)
	}
	return c
}

// see counts that something was looked at, and whether it was right, which it
// returns.
func (c *checks) see(name string, right bool) bool {
	check := c.byName[name]
	check.Checked++
	if !right {
		check.Wrong++
	}
	return right
}

// room reports whether one more finding of a check is kept.
func (c *checks) room(name string) bool { return c.most < 0 || c.kept[name] < c.most }

// find keeps a finding, unless there are many of its check.
func (c *checks) find(name string, f Finding, message string, args ...any) {
	if !c.room(name) {
		return
	}
	c.kept[name]++
	f.Check, f.Message = name, fmt.Sprintf(message, args...)
	c.found = append(c.found, f)
}

// add adds a finding for which there was room.
func (c *checks) add(f Finding) { c.found = append(c.found, f) }

// list is all checks, in their order.
func (c *checks) list() []Check {
	all := make([]Check, len(c.order))
	for i, name := range c.order {
		all[i] = *c.byName[name]
	}
	return all
}

// first are the findings with the first bad positions.
func (c *checks) first() []Finding {
	found := slices.Clone(c.found)
	slices.SortStableFunc(found, byPlace)
	if c.most >= 0 && len(found) > c.most {
		found = found[:c.most]
	}
	return found
}
