package stockledger_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "stockledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ledger, err := stockledger.Open(ctx, stockledger.Config{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer ledger.Close()

	// Commands are Go values, or JSON under the names they have on NATS.
	if _, err := ledger.Do(ctx, commands.Envelope{}, commands.CreateInventoryItems{Items: []commands.NewItem{{
		ID:             "mug",
		LocationLevels: []commands.ItemLevel{{LocationID: "paris", Stocked: events.Units(3)}},
	}}}); err != nil {
		log.Fatal(err)
	}
	order := commands.Envelope{Key: "order-1001", Actor: "shop", Reason: "order"}
	body := []byte(`{"inventory_item_id": "mug", "location_id": "paris", "quantity": 2}`)
	answer, err := ledger.DoJSON(ctx, order, "create-reservations", body)
	if err != nil {
		log.Fatal(err)
	}
	again, err := ledger.DoJSON(ctx, order, "create-reservations", body)
	fmt.Println("sent twice, done once:", !answer.Replayed, again.Replayed, err)

	_, err = ledger.DoJSON(ctx, commands.Envelope{Key: "order-1002"}, "create-reservations", body)
	fmt.Println(stockledger.Code(err), "-", err)

	// A query that names the position of a command sees its effect.
	quantity, err := ledger.Query(ctx, "available-quantity",
		fmt.Appendf(nil, `{"inventory_item_id": "mug", "location_ids": ["paris"], "after": %d}`, answer.Position))
	fmt.Printf("%+v %v\n", quantity, err)
	// Output:
	// sent twice, done once: true true <nil>
	// insufficient_stock - Not enough stock available for item mug at location paris
	// {Quantity:1} <nil>
}
