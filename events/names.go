package events

// The names on disk, one line a fact.

// EventType implements Fact.
func (ItemCreated) EventType() string { return "inventory.item-created.v1" }
func (ItemCreated) fact()             {}

// EventType implements Fact.
func (ItemUpdated) EventType() string { return "inventory.item-updated.v1" }
func (ItemUpdated) fact()             {}

// EventType implements Fact.
func (ItemDeleted) EventType() string { return "inventory.item-deleted.v1" }
func (ItemDeleted) fact()             {}

// EventType implements Fact.
func (ItemRestored) EventType() string { return "inventory.item-restored.v1" }
func (ItemRestored) fact()             {}

// EventType implements Fact.
func (LevelCreated) EventType() string { return "inventory.level-created.v1" }
func (LevelCreated) fact()             {}

// EventType implements Fact.
func (LevelUpdated) EventType() string { return "inventory.level-updated.v1" }
func (LevelUpdated) fact()             {}

// EventType implements Fact.
func (LevelDeleted) EventType() string { return "inventory.level-deleted.v1" }
func (LevelDeleted) fact()             {}

// EventType implements Fact.
func (LevelRestored) EventType() string { return "inventory.level-restored.v1" }
func (LevelRestored) fact()             {}

// EventType implements Fact.
func (StockAdjusted) EventType() string { return "inventory.stock-adjusted.v1" }
func (StockAdjusted) fact()             {}

// EventType implements Fact.
func (StockSet) EventType() string { return "inventory.stock-set.v1" }
func (StockSet) fact()             {}

// EventType implements Fact.
func (IncomingSet) EventType() string { return "inventory.incoming-set.v1" }
func (IncomingSet) fact()             {}

// EventType implements Fact.
func (ReservationCreated) EventType() string { return "inventory.reservation-created.v1" }
func (ReservationCreated) fact()             {}

// EventType implements Fact.
func (ReservationUpdated) EventType() string { return "inventory.reservation-updated.v1" }
func (ReservationUpdated) fact()             {}

// EventType implements Fact.
func (ReservationMoved) EventType() string { return "inventory.reservation-moved.v1" }
func (ReservationMoved) fact()             {}

// EventType implements Fact.
func (ReservationReleased) EventType() string { return "inventory.reservation-released.v1" }
func (ReservationReleased) fact()             {}

// EventType implements Fact.
func (ReservationRestored) EventType() string { return "inventory.reservation-restored.v1" }
func (ReservationRestored) fact()             {}

// EventType implements Fact.
func (ReservationFulfilled) EventType() string { return "inventory.reservation-fulfilled.v1" }
func (ReservationFulfilled) fact()             {}

// EventType implements Fact.
func (ItemLinked) EventType() string { return "inventory.item-linked.v1" }
func (ItemLinked) fact()             {}

// EventType implements Fact.
func (LinkUpdated) EventType() string { return "inventory.link-updated.v1" }
func (LinkUpdated) fact()             {}

// EventType implements Fact.
func (ItemUnlinked) EventType() string { return "inventory.item-unlinked.v1" }
func (ItemUnlinked) fact()             {}

// EventType implements Fact.
func (SKUClaimed) EventType() string { return "inventory.sku-claimed.v1" }
func (SKUClaimed) fact()             {}

// EventType implements Fact.
func (SKUReleased) EventType() string { return "inventory.sku-released.v1" }
func (SKUReleased) fact()             {}

// EventType implements Fact.
func (LocationOpened) EventType() string { return "inventory.location-opened.v1" }
func (LocationOpened) fact()             {}

// EventType implements Fact.
func (LocationUpdated) EventType() string { return "inventory.location-updated.v1" }
func (LocationUpdated) fact()             {}

// EventType implements Fact.
func (LocationClosed) EventType() string { return "inventory.location-closed.v1" }
func (LocationClosed) fact()             {}

// EventType implements Fact.
func (LocationLinked) EventType() string { return "inventory.location-linked.v1" }
func (LocationLinked) fact()             {}

// EventType implements Fact.
func (LocationUnlinked) EventType() string { return "inventory.location-unlinked.v1" }
func (LocationUnlinked) fact()             {}

// EventType implements Fact.
func (CommandAccepted) EventType() string { return "inventory.command-accepted.v1" }
func (CommandAccepted) fact()             {}
