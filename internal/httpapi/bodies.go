package httpapi

import (
	"github.com/stockledger/stockledger/commands"
)

// lines is the body of a command of many lines: an object that holds them under
// a name, an array of them, or one line by itself.
type lines struct{ whole, line any }

// A Shape is what a query is asked with and answered: values of the types.
type Shape struct {
	Asked     any  // its parameters; every query takes "after", too
	Selectors bool // any other name is a selector
	Answer    any
}

// An Operation is what an operation is asked with and answered: values of the
// types.
type Operation struct {
	About         string // one line
	Asked, Answer any
}

// bodies are the types of what commands are made of, by their names.
func bodies() map[string]any {
	all := make(map[string]any)
	for _, c := range []commands.Command{
		commands.DeleteInventoryItems{},
		commands.RestoreInventoryItems{},
		commands.DeleteInventoryLevels{},
		commands.BatchInventoryItemLevels{},
		commands.BulkCreateDeleteLevels{},
		commands.BatchInventoryLinks{},
		commands.DeleteLevelsByLocation{},
		commands.DeleteReservations{},
		commands.DeleteReservationsByLineItem{},
		commands.DeleteReservationsByLocation{},
		commands.RestoreReservations{},
		commands.DeleteStockLocations{},
	} {
		all[c.Name()] = c
	}
	of := func(line any, whole commands.Command) { all[whole.Name()] = lines{whole, line} }
	of(commands.NewItem{}, commands.CreateInventoryItems{})
	of(commands.ItemUpdate{}, commands.UpdateInventoryItems{})
	of(commands.NewLevel{}, commands.CreateInventoryLevels{})
	of(commands.LevelUpdate{}, commands.UpdateInventoryLevels{})
	of(commands.Adjustment{}, commands.AdjustInventoryLevels{})
	of(commands.NewReservation{}, commands.CreateReservations{})
	of(commands.ReservationUpdate{}, commands.UpdateReservations{})
	of(commands.Fulfilment{}, commands.FulfillReservations{})
	of(commands.NewLink{}, commands.AttachInventoryItems{})
	of(commands.LinkUpdate{}, commands.UpdateInventoryLinks{})
	of(commands.LinkName{}, commands.DetachInventoryItems{})
	of(commands.NewLocation{}, commands.CreateStockLocations{})
	of(commands.LocationUpdate{}, commands.UpdateStockLocations{})
	of(commands.LocationLinksUpdate{}, commands.UpdateStockLocationLinks{})
	return all
}
