package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Bounds of a basket. They bound the work of fitting it together.
const (
	maxBasket       = 1000 // lines
	maxBasketPlaces = 2000 // locations, over all lines
)

// A Demand is a line of a basket.
type Demand struct {
	ItemID      string           `json:"inventory_item_id"`
	LocationIDs []string         `json:"location_ids"`
	Quantity    *events.Quantity `json:"quantity"`
}

// A DemandRow is a line and whether it can be met beside the lines before it.
type DemandRow struct {
	ItemID      string          `json:"inventory_item_id"`
	LocationIDs []string        `json:"location_ids"`
	Quantity    events.Quantity `json:"quantity"`
	Available   events.Quantity `json:"available_quantity"` // that the lines before it leave
	Confirmed   bool            `json:"confirmed"`
}

// A Basket says whether all lines can be met together.
type Basket struct {
	Confirmed bool        `json:"confirmed"`
	Lines     []DemandRow `json:"lines"`
}

// ConfirmBasket says whether all lines can be met together: each unit is promised
// once. Lines come in order; one that cannot be met takes nothing, and which of
// its locations a line is met from is left open until the last. A basket of one
// line is answered as ConfirmInventory answers it: without locations nothing is
// available, whatever the item, and a location where more is promised than there
// is takes from the others that are named with it.
func (m *Models) ConfirmBasket(ctx context.Context, lines []Demand) (Basket, error) {
	if err := checkBasket(lines); err != nil {
		return Basket{}, err
	}
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return Basket{}, err
	}
	defer done()
	stock, err := m.stockOf(ctx, lines)
	if err != nil {
		return Basket{}, err
	}
	basket := Basket{Confirmed: true, Lines: make([]DemandRow, len(lines))}
	for item, indexes := range linesByItem(lines) {
		var p promises
		for _, i := range indexes {
			p.add(stock[item], lines[i].LocationIDs)
		}
		p.payDebts()
		for n, i := range indexes {
			row := DemandRow{ItemID: item, LocationIDs: lines[i].LocationIDs, Quantity: *lines[i].Quantity}
			if err := ctx.Err(); err != nil {
				return Basket{}, err
			}
			row.Available, row.Confirmed = p.promise(n, row.Quantity)
			basket.Lines[i] = row
			basket.Confirmed = basket.Confirmed && row.Confirmed
		}
	}
	return basket, nil
}

func linesByItem(lines []Demand) map[string][]int {
	all := make(map[string][]int)
	for i, line := range lines {
		all[line.ItemID] = append(all[line.ItemID], i)
	}
	return all
}

// stockOf is what is available of each item at each location that lines name, all
// of one moment. It refuses a line with locations whose item does not live.
func (m *Models) stockOf(ctx context.Context, lines []Demand) (map[string]map[string]events.Quantity, error) {
	stock := make(map[string]map[string]events.Quantity)
	named := make(map[[2]string]bool)
	pairs := [][2]string{}
	for _, line := range lines {
		for _, location := range line.LocationIDs {
			if at := [2]string{line.ItemID, location}; !named[at] {
				named[at] = true
				pairs = append(pairs, at)
			}
		}
	}
	set, err := json.Marshal(pairs)
	if err != nil {
		return nil, err
	}
	rows, err := m.inventory.file.db.QueryContext(ctx, `
		SELECT i.id, l.location_id, l.stocked_quantity, l.reserved_quantity
		FROM json_each(?) AS pair CROSS JOIN items AS i ON i.id = pair.value ->> 0 AND i.deleted_at IS NULL
		LEFT JOIN levels AS l ON l.inventory_item_id = i.id AND l.location_id = pair.value ->> 1 AND l.deleted_at IS NULL`, string(set))
	_, err = gather(rows, err, func(s scanner) (none struct{}, err error) {
		var item, location string
		var stocked, reserved events.Quantity
		err = s.Scan(&item, blank{&location}, amountOrNone{&stocked}, amountOrNone{&reserved})
		if stock[item] == nil {
			stock[item] = make(map[string]events.Quantity)
		}
		stock[item][location] = stocked.Minus(reserved)
		return none, err
	})
	if err != nil {
		return nil, fmt.Errorf("confirm a basket: %w", err)
	}
	for i, line := range lines {
		if len(line.LocationIDs) > 0 && stock[line.ItemID] == nil {
			return nil, fault.Of(itemNotFound(line.ItemID)).With("line", i+1)
		}
	}
	return stock, nil
}

// An amountOrNone scans an amount, which is 0 where there is no level.
type amountOrNone struct{ *events.Quantity }

// Scan implements sql.Scanner.
func (a amountOrNone) Scan(stored any) error {
	if stored == nil {
		*a.Quantity = events.Quantity{}
		return nil
	}
	return amount(a).Scan(stored)
}

// promises are the units of one item that are promised to takers: lines, and
// places where more was promised than there is. What a taker was promised can
// come from another of its places later, so that as many as possible are served.
type promises struct {
	at     map[string]int // places by location
	places []place
	takers []taker // the lines, in order, and then the debts
}

type place struct {
	left   events.Quantity // not promised
	debt   events.Quantity // promised before, and not there
	unpaid events.Quantity // of the debt, by the places named with it
	lines  []int           // that name it
	takers []int           // that took from it, some time
}

type taker struct {
	places []int
	from   map[int]events.Quantity // promised, by place
}

// add adds a line. A location that it names twice counts once.
func (p *promises) add(stock map[string]events.Quantity, locations []string) {
	if p.at == nil {
		p.at = make(map[string]int)
	}
	line := taker{from: make(map[int]events.Quantity)}
	for _, location := range locations {
		at, known := p.at[location]
		if !known {
			at = len(p.places)
			p.at[location] = at
			var here place
			if available := stock[location]; available.Sign() < 0 {
				here.debt = available.Negated()
			} else {
				here.left = available
			}
			p.places = append(p.places, here)
		}
		if !slices.Contains(p.places[at].lines, len(p.takers)) {
			p.places[at].lines = append(p.places[at].lines, len(p.takers))
			line.places = append(line.places, at)
		}
	}
	p.takers = append(p.takers, line)
}

// payDebts takes what is promised beyond what is there from the places that are
// named with it.
func (p *promises) payDebts() {
	for at := range p.places {
		here := &p.places[at]
		if here.debt.IsZero() {
			continue
		}
		debt := taker{from: make(map[int]events.Quantity)}
		seen := make(map[int]bool)
		for _, line := range here.lines {
			for _, other := range p.takers[line].places {
				if !seen[other] {
					seen[other] = true
					debt.places = append(debt.places, other)
				}
			}
		}
		p.takers = append(p.takers, debt)
		here.unpaid = here.debt.Minus(p.take(len(p.takers)-1, &here.debt))
	}
}

// promise is what is available to a line, and whether that is enough. If so, it
// is promised.
func (p *promises) promise(line int, asked events.Quantity) (available events.Quantity, enough bool) {
	taken := p.take(line, nil)
	available = taken
	for _, at := range p.takers[line].places {
		available = available.Minus(p.places[at].unpaid)
	}
	if enough = !available.Less(asked); enough {
		p.giveBack(line, taken.Minus(asked))
	} else {
		p.giveBack(line, taken)
	}
	return available, enough
}

// take promises a taker as much as there can be, most at most, and says how much
// that was.
func (p *promises) take(t int, most *events.Quantity) (taken events.Quantity) {
	for most == nil || taken.Less(*most) {
		chain := p.chain(t)
		if chain == nil {
			break
		}
		last := chain[len(chain)-1].place
		amount := p.places[last].left
		for i, l := range chain[1:] {
			amount = least(amount, p.takers[l.taker].from[chain[i].place])
		}
		if most != nil {
			amount = least(amount, most.Minus(taken))
		}
		for i, l := range chain {
			if i > 0 { // it leaves what it had there to the taker before
				p.move(l.taker, chain[i-1].place, amount.Negated())
			}
			p.move(l.taker, l.place, amount)
		}
		p.places[last].left = p.places[last].left.Minus(amount)
		taken = taken.Plus(amount)
	}
	return taken
}

func (p *promises) move(t, at int, amount events.Quantity) {
	before, known := p.takers[t].from[at]
	if !known {
		p.places[at].takers = append(p.places[at].takers, t)
	}
	p.takers[t].from[at] = before.Plus(amount)
}

// A hold is a taker and a place it takes from.
type hold struct{ taker, place int }

// chain is the shortest way to give a taker something: it takes from a place, and
// whoever had it from there takes from another place instead, and so on to a
// place that has some left. It is nil when there is none.
func (p *promises) chain(t int) []hold {
	type reached struct {
		taker  int // who takes there
		before int // where he had it, −1 for t
	}
	found := make(map[int]reached)
	asked := make(map[int]bool) // takers: asking one twice finds nothing new
	var queue []int
	reach := func(taker, before int) {
		if asked[taker] {
			return
		}
		asked[taker] = true
		for _, at := range p.takers[taker].places {
			if _, seen := found[at]; !seen {
				found[at] = reached{taker, before}
				queue = append(queue, at)
			}
		}
	}
	for reach(t, -1); len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if p.places[at].left.Sign() > 0 {
			var chain []hold
			for at >= 0 {
				chain = append(chain, hold{found[at].taker, at})
				at = found[at].before
			}
			slices.Reverse(chain)
			return chain
		}
		for _, other := range p.places[at].takers {
			if p.takers[other].from[at].Sign() > 0 {
				reach(other, at)
			}
		}
	}
	return nil
}

func least(a, b events.Quantity) events.Quantity {
	if a.Less(b) {
		return a
	}
	return b
}

func (p *promises) giveBack(t int, amount events.Quantity) {
	for _, at := range p.takers[t].places {
		back := least(amount, p.takers[t].from[at])
		p.takers[t].from[at] = p.takers[t].from[at].Minus(back)
		p.places[at].left = p.places[at].left.Plus(back)
		amount = amount.Minus(back)
	}
}
