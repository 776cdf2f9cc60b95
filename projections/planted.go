package projections

import "github.com/stockledger/stockledger/events"

// planted is the inventory model of version 0, which has a bug made on purpose:
// the totals of an item do not give back what a reservation held when it is
// released, so that too much of the item stays reserved and too little is
// available. Its levels are right. It is there to show, on real traffic, how a
// wrong read model is found, rebuilt, compared and replaced, and nothing but
// [Config.Planted] makes it the model that serves.
//
// Its tables are those of the current version, so the queries and the folds of
// the current version can go on with its file. Version 0 is never used for
// anything else.
func planted(current definition) definition {
	d := definition{name: current.name, version: 0}
	for _, p := range current.parts {
		if p.schema == itemsPart.schema {
			sound := p.fold
			p.fold = func(f *file) fold { return &plantedTotals{sound(f).(*itemsFold)} }
		}
		d.parts = append(d.parts, p)
	}
	return d
}

// plantedTotals folds items as they ought to be, and their totals wrong.
type plantedTotals struct{ *itemsFold }

func (f *plantedTotals) apply(e *event) error {
	switch fact := e.fact.(type) { //nolint:gochecksumtype // it is wrong about no other
	case events.ReservationReleased:
		kept := *e
		kept.changes = []change{e.changes[0]}
		kept.changes[0].reserved.by = events.Quantity{} // the bug
		return f.itemsFold.apply(&kept)
	case events.ItemDeleted:
		return f.unchecked(fact.ItemID, func() error { return f.itemsFold.apply(e) })
	}
	return f.itemsFold.apply(e)
}

// unchecked hides from what is done what the totals of an item are. Version 0 did
// not look whether an item that is deleted has anything left, or it would have
// stopped where its bug shows.
func (f *plantedTotals) unchecked(item string, do func() error) error {
	var left holding
	err := f.totals.change(item, func(t *totals) error {
		left, t.holding = t.holding, holding{}
		return nil
	})
	if err == nil {
		err = do()
	}
	if err != nil {
		return err
	}
	return f.totals.change(item, func(t *totals) error {
		t.holding = left
		return nil
	})
}
