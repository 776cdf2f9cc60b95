package commands_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/stockledger/stockledger/commands"
)

// A pencil draws commands of all kinds about few things, so that callers get in
// each other's way. What it names mostly exists.
type pencil struct {
	*rand.Rand
	reservations int // how many ids there are for them
}

func newPencil(seed uint64) pencil { return pencil{rand.New(rand.NewPCG(seed, 0)), 6} }

func (p pencil) oneIn(n int) bool { return p.IntN(n) == 0 }

func pick[T any](p pencil, all ...T) T { return all[p.IntN(len(all))] }

func (p pencil) item() string {
	if p.oneIn(60) {
		return "ghost"
	}
	return pick(p, "cup", "cup", "cup", "cup", "cup", "pot", "pot", "pot", "jar", "tin")
}

func (p pencil) location() string {
	if p.oneIn(40) {
		return "mars"
	}
	return pick(p, "paris", "paris", "paris", "paris", "oslo", "oslo", "oslo", "rome")
}

func (p pencil) level() string       { return fmt.Sprint("lv", p.IntN(8)) }
func (p pencil) reservation() string { return fmt.Sprint("r", p.IntN(p.reservations)) }
func (p pencil) line() string        { return fmt.Sprint("line-", p.IntN(6)) }
func (p pencil) variant() string     { return pick(p, "tea-set", "breakfast") }
func (p pencil) channel() string     { return pick(p, "web", "shop", "fair") }

// tenths is mostly a whole number of units.
func (p pencil) tenths(from, to int64) *amount {
	a := amount(10 * (from + p.Int64N(to-from)))
	if p.oneIn(8) {
		a += amount(p.IntN(10))
	}
	return &a
}

func sometimes[T any](p pencil, n int, draw func() T) (none T) {
	if p.oneIn(n) {
		return draw()
	}
	return none
}

func (p pencil) floor() string { return pick(p, "", "", "", "", "reserved", "zero", "none") }

func (p pencil) text(all ...string) json.RawMessage {
	if p.oneIn(5) {
		return json.RawMessage("null")
	}
	text, _ := json.Marshal(pick(p, all...))
	return text
}

func (p pencil) metadata() json.RawMessage {
	return json.RawMessage(pick(p, `null`, `{}`, `{"a":1}`, `{"a":null,"b":"x"}`, `{"b":{"c":[1,2]}}`))
}

func (p pencil) expect() *bookExpect {
	e := &bookExpect{}
	switch p.IntN(3) {
	case 0:
		e.Stocked = p.tenths(0, 12)
	case 1:
		e.Reserved = p.tenths(0, 4)
	default:
		version := 1 + p.IntN(40)
		e.Version = &version
	}
	return e
}

func (p pencil) truth() *bool { is := p.oneIn(2); return &is }

func (p pencil) newLevel() bookLine {
	return bookLine{
		ID: sometimes(p, 2, p.level), Item: p.item(), Location: p.location(),
		Stocked:  sometimes(p, 2, func() *amount { return p.tenths(-1, 9) }),
		Incoming: sometimes(p, 6, func() *amount { return p.tenths(-1, 3) }), Metadata: sometimes(p, 4, p.metadata),
	}
}

func (p pencil) levelUpdate() bookLine {
	n := bookLine{ID: p.level()}
	if !p.oneIn(3) {
		n = bookLine{ID: sometimes(p, 6, p.level), Item: p.item(), Location: p.location()}
	}
	n.Stocked = sometimes(p, 2, func() *amount { return p.tenths(-2, 12) })
	n.Incoming = sometimes(p, 3, func() *amount { return p.tenths(-1, 2) })
	n.Metadata, n.Expect, n.Floor = sometimes(p, 4, p.metadata), sometimes(p, 6, p.expect), p.floor()
	return n
}

func (p pencil) link() bookLine { return bookLine{Variant: p.variant(), Item: p.item()} }

func (p pencil) newLink() bookLine {
	n := p.link()
	n.Required = sometimes(p, 2, func() *amount { return p.tenths(0, 5) })
	return n
}

func (p pencil) linkUpdate() bookLine {
	n := p.link()
	n.Required = p.tenths(0, 5)
	return n
}

// changes makes or ends a link; one command may not do both to the same.
func (p pencil) changes() *bookChanges {
	if p.oneIn(3) {
		return &bookChanges{Remove: few(p, 2, p.channel)}
	}
	return &bookChanges{Add: few(p, 2, p.channel)}
}

func (p pencil) set() fulfilment {
	return fulfilment{ID: sometimes(p, 2, func() string { return pick(p, "set1", "set2") }), Name: pick(p, "van", "bike"), Type: pick(p, "pickup", "shipping")}
}

// few is one to most, and mostly one.
func few[T any](p pencil, most int, draw func() T) []T {
	all := make([]T, 1+p.IntN(most)*p.IntN(2))
	for i := range all {
		all[i] = draw()
	}
	return all
}

// usual are commands by how often they are sent; every command is in here.
var usual = func() []string {
	all := commands.Names()
	for _, often := range []string{"adjust-inventory-levels", "create-reservations", "update-reservations", "fulfill-reservations", "restore-reservations"} {
		all = append(all, often, often, often, often)
	}
	return append(all, "update-inventory-levels", "create-inventory-levels", "batch-inventory-item-levels", "restore-inventory-items",
		"create-inventory-items", "adjust-inventory-levels", "create-reservations", "create-reservations")
}()

// order draws a command.
func (p pencil) order() order {
	name := pick(p, usual...)
	if strings.HasPrefix(name, "delete-") && p.oneIn(2) { // or soon there is nothing left
		name = pick(p, "create-inventory-levels", "create-reservations", "batch-inventory-item-levels")
	}
	return p.orderOf(name)
}

func (p pencil) orderOf(name string) order {
	o := order{name: name, force: p.oneIn(3)}
	switch name {
	case "create-stock-locations":
		o.lines = few(p, 2, func() bookLine {
			return bookLine{
				ID: p.location(), Name: pick(p, "Here", "There"), Metadata: sometimes(p, 3, p.metadata),
				Address: sometimes(p, 3, func() json.RawMessage {
					return json.RawMessage(`{"address_1":"1 rue du Four","country_code":"fr","city":"Paris"}`)
				}),
			}
		})
	case "update-stock-locations":
		o.lines = few(p, 2, func() bookLine {
			return bookLine{
				ID: p.location(), Name: sometimes(p, 2, func() string { return pick(p, "Here", "There", "Harbour") }), Metadata: sometimes(p, 3, p.metadata),
				Address: sometimes(p, 3, func() json.RawMessage {
					return json.RawMessage(pick(p, "null", `{"address_1":"Bryggen 1","country_code":"no"}`))
				}),
			}
		})
	case "update-stock-location-links":
		o.lines = few(p, 2, func() bookLine {
			return bookLine{
				ID: p.location(), Channels: sometimes(p, 2, p.changes), Providers: sometimes(p, 3, p.changes),
				Sets: sometimes(p, 2, func() *bookSets {
					if p.oneIn(3) {
						return &bookSets{Remove: []string{"set1"}}
					}
					return &bookSets{Add: []fulfilment{p.set()}}
				}),
			}
		})
	case "delete-stock-locations":
		if o.ids = []string{p.location()}; !p.oneIn(12) {
			o.ids = []string{"mars"} // the others are missed for ever
		}
	case "create-inventory-items":
		o.lines = few(p, 2, func() bookLine {
			return bookLine{
				ID: sometimes(p, 2, p.item), SKU: sometimes(p, 3, func() json.RawMessage { return p.text("A", "a", "B") }),
				Title:  sometimes(p, 3, func() json.RawMessage { return p.text("Cup", "Pot") }),
				Weight: sometimes(p, 4, func() *amount { return p.tenths(0, 9) }), Shipping: sometimes(p, 4, p.truth),
				Metadata: sometimes(p, 4, p.metadata),
				Levels: sometimes(p, 2, func() []bookLine {
					return few(p, 2, func() bookLine {
						return bookLine{Location: p.location(), Stocked: sometimes(p, 2, func() *amount { return p.tenths(0, 9) })}
					})
				}),
			}
		})
		for i := range o.lines {
			if o.lines[i].ID == "ghost" {
				o.lines[i].ID = ""
			}
		}
	case "update-inventory-items":
		o.lines = few(p, 3, func() bookLine {
			return bookLine{
				ID: p.item(), SKU: sometimes(p, 2, func() json.RawMessage { return p.text("A", "a", "B") }),
				Title:  sometimes(p, 3, func() json.RawMessage { return p.text("Cup", "Pot") }),
				Weight: sometimes(p, 4, func() *amount { return p.tenths(0, 9) }), Shipping: sometimes(p, 4, p.truth),
				Metadata: sometimes(p, 3, p.metadata),
			}
		})
	case "delete-inventory-items":
		o.ids = few(p, 2, func() string { return pick(p, "jar", "tin", "tin", p.item()) })
	case "restore-inventory-items":
		o.ids = few(p, 2, p.item)
	case "create-inventory-levels":
		o.lines = few(p, 2, p.newLevel)
	case "update-inventory-levels":
		o.lines = few(p, 2, p.levelUpdate)
	case "adjust-inventory-levels":
		o.lines = few(p, 3, func() bookLine {
			return bookLine{
				Item: p.item(), Location: p.location(), Adjustment: p.tenths(-4, 7), Floor: p.floor(), Expect: sometimes(p, 8, p.expect),
			}
		})
	case "batch-inventory-item-levels":
		o.create = sometimes(p, 2, func() []bookLine { return few(p, 2, p.newLevel) })
		o.update = sometimes(p, 2, func() []bookLine { return few(p, 2, p.levelUpdate) })
		o.removeIDs = sometimes(p, 2, func() []string { return few(p, 2, p.level) })
	case "bulk-create-delete-levels":
		o.force = false
		o.create = sometimes(p, 2, func() []bookLine { return few(p, 2, p.newLevel) })
		o.remove = sometimes(p, 2, func() []bookLine {
			return []bookLine{{Item: p.item(), Location: p.location()}}
		})
	case "delete-inventory-levels":
		switch p.IntN(4) {
		case 0:
			o.ofItems = []string{p.item()}
			o.atLocations = sometimes(p, 2, func() []string { return []string{p.location()} })
		case 1:
			o.atLocations = []string{p.location()}
		default:
			o.by = few(p, 2, p.level)
		}
	case "delete-levels-by-location":
		o.atLocations = []string{p.location()}
	case "create-reservations":
		o.lines = few(p, 3, func() bookLine {
			n := bookLine{
				ID: p.reservation(), Item: p.item(), Location: p.location(), Quantity: p.tenths(0, 5), Expect: sometimes(p, 8, p.expect),
				Line: sometimes(p, 2, func() json.RawMessage { return p.text(p.line()) }), Description: sometimes(p, 5, func() json.RawMessage { return p.text("gift") }),
				Backorder: sometimes(p, 8, p.truth), Metadata: sometimes(p, 6, p.metadata),
			}
			if p.oneIn(10) {
				n.ID, n.Line = "", nil // one that nobody finds again
			}
			return n
		})
	case "update-reservations":
		o.lines = few(p, 2, func() bookLine {
			return bookLine{
				ID: p.reservation(), Location: sometimes(p, 2, p.location), Quantity: sometimes(p, 2, func() *amount { return p.tenths(0, 6) }),
				Line: sometimes(p, 4, func() json.RawMessage { return p.text(p.line()) }), Description: sometimes(p, 5, func() json.RawMessage { return p.text("gift", "late") }),
				Backorder: sometimes(p, 6, p.truth), Metadata: sometimes(p, 5, p.metadata),
			}
		})
	case "fulfill-reservations":
		o.lines = few(p, 2, func() bookLine {
			return bookLine{
				ID: p.reservation(), Location: sometimes(p, 4, p.location), Quantity: sometimes(p, 2, func() *amount { return p.tenths(0, 4) }),
				Floor: p.floor(), Expect: sometimes(p, 8, p.expect),
			}
		})
	case "delete-reservations", "restore-reservations":
		o.ids = few(p, 2, p.reservation)
	case "delete-reservations-by-line-item":
		o.ids = few(p, 2, p.line)
	case "delete-reservations-by-location":
		o.ids = []string{p.location()}
	case "attach-inventory-items":
		o.lines = few(p, 2, p.newLink)
	case "update-inventory-links":
		o.lines = few(p, 2, p.linkUpdate)
	case "detach-inventory-items":
		o.lines = few(p, 2, p.link)
	case "batch-inventory-links":
		o.create = sometimes(p, 2, func() []bookLine { return few(p, 2, p.newLink) })
		o.update = sometimes(p, 3, func() []bookLine { return few(p, 2, p.linkUpdate) })
		o.remove = sometimes(p, 2, func() []bookLine { return few(p, 2, p.link) })
	default:
		panic("nobody draws " + name)
	}
	return o
}
