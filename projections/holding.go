package projections

import (
	"database/sql/driver"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// A holding is what a level holds, or an item over its levels.
type holding struct{ stocked, reserved, incoming events.Quantity }

func (h holding) available() events.Quantity { return h.stocked.Minus(h.reserved) }

// What an event moves, as bits.
const (
	movedStocked = 1 << iota
	movedReserved
	movedIncoming
)

// since says what moved.
func (h holding) since(was holding) (moved int) {
	if !h.stocked.Equal(was.stocked) {
		moved |= movedStocked
	}
	if !h.reserved.Equal(was.reserved) {
		moved |= movedReserved
	}
	if !h.incoming.Equal(was.incoming) {
		moved |= movedIncoming
	}
	return moved
}

// A holdingUpdate writes a holding, by what moved. Each quantity has an index,
// and SQLite writes those of all columns that are set, changed or not.
type holdingUpdate [8]string

// updatesHolding makes the statements of a table. Besides the quantities they
// set also, whose arguments come after theirs.
func updatesHolding(table, also string) (texts holdingUpdate) {
	for moved := range texts {
		var set []string
		if moved&movedStocked != 0 {
			set = append(set, `stocked_quantity = ?`)
		}
		if moved&movedReserved != 0 {
			set = append(set, `reserved_quantity = ?`)
		}
		if moved&(movedStocked|movedReserved) != 0 {
			set = append(set, `available_quantity = ?`)
		}
		if moved&movedIncoming != 0 {
			set = append(set, `incoming_quantity = ?`)
		}
		texts[moved] = `UPDATE ` + table + ` SET ` + strings.Join(append(set, also), `, `) + ` WHERE position = ?`
	}
	return texts
}

func (u *holdingUpdate) write(w *writer, now, was holding, also ...driver.Value) error {
	moved := now.since(was)
	args := make([]driver.Value, 0, 8) // four quantities, and four more of a level
	if moved&movedStocked != 0 {
		args = append(args, quantityKey(now.stocked))
	}
	if moved&movedReserved != 0 {
		args = append(args, quantityKey(now.reserved))
	}
	if moved&(movedStocked|movedReserved) != 0 {
		args = append(args, quantityKey(now.available()))
	}
	if moved&movedIncoming != 0 {
		args = append(args, quantityKey(now.incoming))
	}
	return w.exec(u[moved], append(args, also...)...)
}
