package audit

import (
	"strconv"
	"unique"

	"github.com/stockledger/stockledger/events"
)

// An amount is a quantity as the books keep it: its plain notation, which is what
// rows are compared by. Equal amounts share their text, so an amount takes one
// word however many digits it has. The zero amount is 0.
type amount struct{ text unique.Handle[string] }

func amountOf(q events.Quantity) amount { return amountText(q.String()) }

func amountText(plain string) amount {
	if plain == "0" {
		return amount{}
	}
	return amount{unique.Make(plain)}
}

// String is a in plain notation.
func (a amount) String() string {
	if a == (amount{}) {
		return "0"
	}
	return a.text.Value()
}

func (a amount) quantity() events.Quantity {
	q, err := events.ParseSum(a.String())
	if err != nil {
		panic(err) // it was written by a Quantity
	}
	return q
}

// whole is a as an integer, if it is one that can be added to another without
// overflow.
func (a amount) whole() (int64, bool) {
	if a == (amount{}) {
		return 0, true
	}
	text := a.text.Value()
	if len(text) > 18 {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

func (a amount) plus(o amount) amount {
	if o == (amount{}) {
		return a
	}
	if a == (amount{}) {
		return o
	}
	if n, ok := a.whole(); ok {
		if m, ok := o.whole(); ok {
			return amountText(strconv.FormatInt(n+m, 10))
		}
	}
	return amountOf(a.quantity().Plus(o.quantity()))
}

func (a amount) minus(o amount) amount { return a.plus(o.negated()) }

func (a amount) negated() amount {
	if a == (amount{}) {
		return a
	}
	text := a.text.Value()
	if text[0] == '-' {
		return amountText(text[1:])
	}
	return amountText("-" + text)
}

func (a amount) negative() bool { return a != (amount{}) && a.text.Value()[0] == '-' }

// positive reports whether a is above zero.
func (a amount) positive() bool { return a != (amount{}) && !a.negative() }

// A holding is what a level holds, or several together: stocked, reserved and
// incoming.
type holding [3]amount

// The places of a holding.
const (
	stocked = iota
	reserved
	incoming
)

// quantityNames are the columns of a holding.
var quantityNames = [3]string{"stocked_quantity", "reserved_quantity", "incoming_quantity"}

func (h holding) plus(o holding) holding {
	for i := range h {
		h[i] = h[i].plus(o[i])
	}
	return h
}

func (h holding) minus(o holding) holding {
	for i := range h {
		h[i] = h[i].minus(o[i])
	}
	return h
}

func (h holding) available() amount { return h[stocked].minus(h[reserved]) }
