package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// NewLevel is a level to be created.
type NewLevel struct {
	ID              string          `json:"id,omitzero"` // made when left out
	InventoryItemID string          `json:"inventory_item_id"`
	LocationID      string          `json:"location_id"`
	Stocked         events.Quantity `json:"stocked_quantity,omitzero"`
	Incoming        events.Quantity `json:"incoming_quantity,omitzero"`
	// Reserved may only be 0: what is reserved is the sum of the reservations.
	Reserved events.Quantity `json:"reserved_quantity,omitzero"`
	Metadata json.RawMessage `json:"metadata,omitzero"`
}

func (n NewLevel) check() error {
	if !n.Reserved.IsZero() {
		return fault.New(fault.Invalid, "reserved_is_derived",
			"reserved_quantity is the sum of the reservations and cannot be set; create reservations instead").
			With("field", "reserved_quantity")
	}
	return first(textWithin("id", n.ID, maxID), required("inventory_item_id", n.InventoryItemID),
		required("location_id", n.LocationID), metadataWithin(n.Metadata))
}

// LevelName names the level of an item at a location.
type LevelName struct {
	InventoryItemID string `json:"inventory_item_id"`
	LocationID      string `json:"location_id"`
}

func (n LevelName) check() error {
	return first(required("inventory_item_id", n.InventoryItemID), required("location_id", n.LocationID))
}

// openLocation wants a location if levels may only be at open ones.
func (p *prefetch) openLocation(id string) {
	if p.engine.config.RequireKnownLocations {
		p.location(id)
	}
}

// openLocations refuses locations that are not open.
func (d *decision) openLocations(ids ...string) error {
	var unknown []string
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		location, err := d.location(id)
		if err != nil {
			return err
		}
		if !location.Exists() && !seen[id] {
			unknown = append(unknown, id)
		}
		seen[id] = true
	}
	if len(unknown) == 0 {
		return nil
	}
	return fault.New(fault.NotFound, "not_found", "Stock locations with ids: %s was not found", strings.Join(unknown, ", ")).
		With("location_id", unknown[0])
}

func (p *prefetch) newLevels(ctx context.Context, levels []NewLevel) error {
	for _, n := range levels {
		p.item(n.InventoryItemID)
		p.openLocation(n.LocationID)
		if n.ID != "" {
			if _, err := p.find(ctx, FindLevel, n.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *decision) newLevel(n NewLevel) (LevelRow, error) {
	return d.createLevel(n.InventoryItemID, domain.NewLevel{
		ID: n.ID, LocationID: n.LocationID, Stocked: n.Stocked, Incoming: n.Incoming, Metadata: n.Metadata,
	})
}

func (d *decision) createLevel(item string, n domain.NewLevel) (LevelRow, error) {
	if d.engine.config.RequireKnownLocations {
		if err := d.openLocations(n.LocationID); err != nil {
			return LevelRow{}, err
		}
	}
	if n.ID != "" {
		if _, taken, err := d.owner(FindLevel, n.ID); err != nil {
			return LevelRow{}, err
		} else if taken {
			return LevelRow{}, fault.New(fault.Conflict, "level_exists", "Inventory level with id: %s, already exists.", n.ID).
				With("level_id", n.ID)
		}
	}
	n.ID = cmp.Or(n.ID, "ilev_"+newUUID())
	return d.level(item, n.LocationID, func(it *domain.Item) ([]events.Fact, error) { return it.CreateLevel(item, n) })
}

// level makes a decision about a level and answers how it is then.
func (d *decision) level(item, location string, decide func(*domain.Item) ([]events.Fact, error)) (LevelRow, error) {
	it, err := d.item(item)
	if err != nil {
		return LevelRow{}, err
	}
	facts, err := decide(it)
	if err != nil {
		return LevelRow{}, err
	}
	d.record(events.ItemStream(item), facts...)
	l, _ := it.Level(location)
	return levelRow(item, l), nil
}

// CreateInventoryLevels stocks items at locations, all or none. It answers with
// the levels.
type CreateInventoryLevels struct {
	Levels []NewLevel `json:"inventory_levels"`
	// KnownLocations refuses levels at locations that are not open, also where the
	// ledger does not. Like every option that is not in JSON, it is for programs that
	// speak for others, and no part of what a key belongs to.
	KnownLocations bool `json:"-"`
}

// Name implements Command.
func (CreateInventoryLevels) Name() string { return "create-inventory-levels" }

func (c CreateInventoryLevels) check() error { return eachLine(c.Levels, NewLevel.check) }

func (c CreateInventoryLevels) prefetch(ctx context.Context, p *prefetch) error {
	if c.KnownLocations {
		for _, n := range c.Levels {
			p.location(n.LocationID)
		}
	}
	return p.newLevels(ctx, c.Levels)
}

func (c CreateInventoryLevels) decide(d *decision) (any, error) {
	return each(d, c.Levels, func(n NewLevel) (LevelRow, error) {
		if c.KnownLocations {
			if err := d.openLocations(n.LocationID); err != nil {
				return LevelRow{}, err
			}
		}
		return d.newLevel(n)
	})
}

// LevelUpdate sets quantities of a level, which is named by its id, by its item
// and location, or by both, which must agree.
type LevelUpdate struct {
	ID              string                        `json:"id,omitzero"`
	InventoryItemID string                        `json:"inventory_item_id,omitzero"`
	LocationID      string                        `json:"location_id,omitzero"`
	Stocked         *events.Quantity              `json:"stocked_quantity,omitempty"`
	Incoming        *events.Quantity              `json:"incoming_quantity,omitempty"`
	Metadata        domain.Field[json.RawMessage] `json:"metadata,omitzero"`
	Floor           domain.Floor                  `json:"floor,omitzero"`
	Expect          *domain.Expect                `json:"expect,omitzero"`
}

func (u LevelUpdate) check() error {
	if u.ID == "" || u.InventoryItemID != "" || u.LocationID != "" {
		if err := (LevelName{u.InventoryItemID, u.LocationID}).check(); err != nil {
			return err
		}
	}
	return first(textWithin("id", u.ID, maxID), u.Floor.Check(), metadataField(u.Metadata))
}

func (p *prefetch) levelUpdates(ctx context.Context, updates []LevelUpdate) error {
	for _, u := range updates {
		if u.InventoryItemID != "" {
			p.item(u.InventoryItemID)
		} else if _, err := p.find(ctx, FindLevel, u.ID); err != nil {
			return err
		}
	}
	return nil
}

func (d *decision) updateLevel(u LevelUpdate) (LevelRow, error) {
	if u.InventoryItemID == "" {
		item, l, err := d.levelByID(u.ID)
		if err != nil {
			return LevelRow{}, err
		}
		u.InventoryItemID, u.LocationID = item, l.LocationID
	}
	return d.level(u.InventoryItemID, u.LocationID, func(it *domain.Item) ([]events.Fact, error) {
		if l, found := it.Level(u.LocationID); found && u.ID != "" && l.ID != u.ID {
			return nil, fault.New(fault.Invalid, "level_mismatch", "the level of item %s at location %s is %s, not %s",
				u.InventoryItemID, u.LocationID, l.ID, u.ID).With("field", "id").With("level_id", l.ID)
		}
		changes := domain.LevelChanges{Stocked: u.Stocked, Incoming: u.Incoming, Metadata: u.Metadata}
		return it.UpdateLevel(u.InventoryItemID, u.LocationID, changes, u.Floor, u.Expect)
	})
}

// levelByID finds a live level.
func (d *decision) levelByID(id string) (item string, l domain.Level, err error) {
	item, l, found, err := d.findLevel(id)
	if err == nil && !found {
		err = levelNotFound(id)
	}
	return item, l, err
}

// findLevel finds a level by its id; one that is deleted has no location.
func (d *decision) findLevel(id string) (item string, l domain.Level, found bool, err error) {
	item, known, err := d.owner(FindLevel, id)
	if err != nil || !known {
		return "", domain.Level{}, false, err
	}
	it, err := d.item(item)
	if err != nil {
		return "", domain.Level{}, false, err
	}
	l, found = it.LevelByID(id)
	return item, l, found, nil
}

func levelNotFound(id string) error {
	return fault.New(fault.NotFound, "not_found", "InventoryLevel with id: %s was not found", id).With("level_id", id)
}

// UpdateInventoryLevels sets quantities of levels, all or none. It answers with
// the levels.
type UpdateInventoryLevels struct {
	Updates []LevelUpdate `json:"updates"`
}

// Name implements Command.
func (UpdateInventoryLevels) Name() string { return "update-inventory-levels" }

func (c UpdateInventoryLevels) check() error { return eachLine(c.Updates, LevelUpdate.check) }

func (c UpdateInventoryLevels) prefetch(ctx context.Context, p *prefetch) error {
	return p.levelUpdates(ctx, c.Updates)
}

func (c UpdateInventoryLevels) decide(d *decision) (any, error) {
	return each(d, c.Updates, d.updateLevel)
}

// Adjustment moves the stock of a level.
type Adjustment struct {
	LevelName
	Adjustment *events.Quantity `json:"adjustment"`
	Floor      domain.Floor     `json:"floor,omitzero"`
	Expect     *domain.Expect   `json:"expect,omitzero"`
}

// AdjustInventoryLevels moves the stock of levels up or down, all or none; each
// line sees the lines before it. It answers with the levels.
type AdjustInventoryLevels struct {
	Updates []Adjustment `json:"updates"`
}

// Name implements Command.
func (AdjustInventoryLevels) Name() string { return "adjust-inventory-levels" }

func (c AdjustInventoryLevels) check() error {
	return eachLine(c.Updates, func(a Adjustment) error {
		return first(a.check(), requiredQuantity("adjustment", a.Adjustment), a.Floor.Check())
	})
}

func (c AdjustInventoryLevels) prefetch(_ context.Context, p *prefetch) error {
	for _, a := range c.Updates {
		p.item(a.InventoryItemID)
	}
	return nil
}

func (c AdjustInventoryLevels) decide(d *decision) (any, error) {
	return each(d, c.Updates, func(a Adjustment) (LevelRow, error) {
		return d.level(a.InventoryItemID, a.LocationID, func(it *domain.Item) ([]events.Fact, error) {
			return it.Adjust(a.InventoryItemID, a.LocationID, *a.Adjustment, a.Floor, a.Expect)
		})
	})
}

// DeleteInventoryLevels deletes the levels named by id, and those of the items
// or at the locations named, or of the items at the locations when both are.
// A list that is empty names nothing; it is not as if it were left out. It answers
// with the ids of the levels.
type DeleteInventoryLevels struct {
	ID              IDs  `json:"id,omitzero"`
	IDs             IDs  `json:"ids,omitzero"` // another name for id
	InventoryItemID IDs  `json:"inventory_item_id,omitzero"`
	LocationID      IDs  `json:"location_id,omitzero"`
	Force           bool `json:"force,omitzero"` // also where something is in stock
}

// Name implements Command.
func (DeleteInventoryLevels) Name() string { return "delete-inventory-levels" }

func (c DeleteInventoryLevels) check() error {
	if len(c.ID)+len(c.IDs)+len(c.InventoryItemID)+len(c.LocationID) == 0 {
		return fault.New(fault.Invalid, "required", "Field 'id' is required, or inventory_item_id, or location_id").With("field", "id")
	}
	return first(within(len(c.ID)+len(c.IDs)+len(c.InventoryItemID)+len(c.LocationID)), eachID("id", c.ID), eachID("ids", c.IDs),
		eachID("inventory_item_id", c.InventoryItemID), eachID("location_id", c.LocationID))
}

func (c DeleteInventoryLevels) ids() []string { return slices.Concat(c.ID, c.IDs) }

func (c DeleteInventoryLevels) prefetch(ctx context.Context, p *prefetch) error {
	for _, id := range c.ids() {
		if _, err := p.find(ctx, FindLevel, id); err != nil {
			return err
		}
	}
	for _, item := range c.InventoryItemID {
		p.item(item)
	}
	if c.InventoryItemID != nil {
		return nil
	}
	return p.locationLevels(ctx, c.LocationID)
}

func (c DeleteInventoryLevels) decide(d *decision) (any, error) {
	deleted, err := d.deleteLevels(c.ids(), c.Force, false)
	if err != nil {
		return nil, err
	}
	for _, id := range c.InventoryItemID {
		item, err := d.item(id)
		if err != nil {
			return nil, err
		}
		if !item.Exists() {
			return nil, domain.ItemNotFound(id)
		}
		for _, l := range item.Levels() {
			if c.LocationID != nil && !slices.Contains(c.LocationID, l.LocationID) {
				continue
			}
			if err := d.deleteLevel(id, l, c.Force); err != nil {
				return nil, err
			}
			deleted = append(deleted, l.ID)
		}
	}
	if c.InventoryItemID != nil {
		return ids(deleted), nil
	}
	more, err := d.deleteLevelsAt(c.LocationID, c.Force)
	return ids(deleted, more), err
}

// deleteLevels deletes levels by their ids. Those deleted before are left alone,
// and so are those that never were, if they are to be passed over.
func (d *decision) deleteLevels(ids []string, force, ignoreUnknown bool) ([]string, error) {
	return each(d, ids, func(id string) (string, error) {
		item, l, live, err := d.findLevel(id)
		switch {
		case err != nil:
			return "", err
		case item == "":
			return id, unlessIgnored(ignoreUnknown, levelNotFound(id))
		case !live:
			return id, nil
		}
		return id, d.deleteLevel(item, l, force)
	})
}

func (d *decision) deleteLevel(item string, l domain.Level, force bool) error {
	it, err := d.item(item)
	if err != nil {
		return err
	}
	facts, err := it.DeleteLevel(item, l.LocationID, force, nil)
	if err != nil {
		return err
	}
	d.record(events.ItemStream(item), facts...)
	return nil
}

func (p *prefetch) locationLevels(ctx context.Context, locations []string) error {
	for _, location := range locations {
		if _, err := p.find(ctx, FindLocationLevels, location); err != nil {
			return err
		}
	}
	return nil
}

func (d *decision) deleteLevelsAt(locations []string, force bool) ([]string, error) {
	total := 0
	deleted, err := each(d, locations, func(location string) ([]string, error) {
		refs, err := d.find(FindLocationLevels, location)
		if err != nil {
			return nil, err
		}
		if total += len(refs); total > MaxLines {
			return nil, tooMany("levels", location, len(refs))
		}
		if err := d.needItems(refs); err != nil {
			return nil, err
		}
		var deleted []string
		for _, ref := range refs {
			it, err := d.item(ref.Item)
			if err != nil {
				return nil, err
			}
			l, live := it.LevelByID(ref.ID)
			if !live {
				continue
			}
			if err := d.deleteLevel(ref.Item, l, force); err != nil {
				return nil, err
			}
			deleted = append(deleted, l.ID)
		}
		return deleted, nil
	})
	return slices.Concat(deleted...), err
}

func tooMany(what, location string, n int) error {
	return fault.New(fault.Invalid, "too_many_lines",
		"there are %d %s at location %s, and one command changes at most %d; name them in several commands", n, what, location, MaxLines).
		With("location_id", location)
}

// DeleteLevelsByLocation deletes all levels at locations, all or none. It
// answers with the ids of the levels.
type DeleteLevelsByLocation struct {
	LocationID IDs  `json:"location_id"`
	Force      bool `json:"force,omitzero"`
}

// Name implements Command.
func (DeleteLevelsByLocation) Name() string { return "delete-levels-by-location" }

func (c DeleteLevelsByLocation) check() error {
	if len(c.LocationID) == 0 {
		return required("location_id", "")
	}
	return eachID("location_id", c.LocationID)
}

func (c DeleteLevelsByLocation) prefetch(ctx context.Context, p *prefetch) error {
	return p.locationLevels(ctx, c.LocationID)
}

func (c DeleteLevelsByLocation) decide(d *decision) (any, error) {
	deleted, err := d.deleteLevelsAt(c.LocationID, c.Force)
	return ids(deleted), err
}

// BatchInventoryItemLevels creates, updates and deletes levels in one commit, in
// this order: delete, create, update.
type BatchInventoryItemLevels struct {
	Create []NewLevel    `json:"create,omitzero"`
	Update []LevelUpdate `json:"update,omitzero"`
	Delete []string      `json:"delete,omitzero"` // level ids
	Force  bool          `json:"force,omitzero"`
	// IgnoreUnknown passes over levels that are to be deleted and never were.
	IgnoreUnknown bool `json:"-"`
}

// BatchResult is what a batch did.
type BatchResult struct {
	Created []LevelRow `json:"created"`
	Updated []LevelRow `json:"updated"`
	Deleted []string   `json:"deleted"`
}

// Name implements Command.
func (BatchInventoryItemLevels) Name() string { return "batch-inventory-item-levels" }

func (c BatchInventoryItemLevels) check() error {
	return first(
		part("create", eachLine(c.Create, NewLevel.check)),
		part("update", eachLine(c.Update, LevelUpdate.check)),
		part("delete", eachID("id", c.Delete)),
		within(len(c.Create)+len(c.Update)+len(c.Delete)),
	)
}

func (c BatchInventoryItemLevels) prefetch(ctx context.Context, p *prefetch) error {
	if err := first(p.newLevels(ctx, c.Create), p.levelUpdates(ctx, c.Update)); err != nil {
		return err
	}
	for _, id := range c.Delete {
		if _, err := p.find(ctx, FindLevel, id); err != nil {
			return err
		}
	}
	return nil
}

func (c BatchInventoryItemLevels) decide(d *decision) (any, error) {
	deleted, err := d.deleteLevels(c.Delete, c.Force, c.IgnoreUnknown)
	if err != nil {
		return nil, part("delete", err)
	}
	created, err := each(d, c.Create, d.newLevel)
	if err != nil {
		return nil, part("create", err)
	}
	updated, err := each(d, c.Update, d.updateLevel)
	if err != nil {
		return nil, part("update", err)
	}
	return BatchResult{Created: created, Updated: updated, Deleted: deleted}, nil
}

// BulkCreateDeleteLevels deletes levels and creates others in one commit. It is
// deprecated in favour of BatchInventoryItemLevels, and answers with the levels
// created.
type BulkCreateDeleteLevels struct {
	Creates []NewLevel  `json:"creates,omitzero"`
	Deletes []LevelName `json:"deletes,omitzero"`
}

// Name implements Command.
func (BulkCreateDeleteLevels) Name() string { return "bulk-create-delete-levels" }

func (c BulkCreateDeleteLevels) check() error {
	return first(
		part("creates", eachLine(c.Creates, NewLevel.check)),
		part("deletes", eachLine(c.Deletes, LevelName.check)),
		within(len(c.Creates)+len(c.Deletes)),
	)
}

func (c BulkCreateDeleteLevels) prefetch(ctx context.Context, p *prefetch) error {
	for _, n := range c.Deletes {
		p.item(n.InventoryItemID)
	}
	return p.newLevels(ctx, c.Creates)
}

func (c BulkCreateDeleteLevels) decide(d *decision) (any, error) {
	if _, err := each(d, c.Deletes, func(n LevelName) (LevelRow, error) {
		return d.level(n.InventoryItemID, n.LocationID, func(it *domain.Item) ([]events.Fact, error) {
			return it.DeleteLevel(n.InventoryItemID, n.LocationID, false, nil)
		})
	}); err != nil {
		return nil, part("deletes", err)
	}
	created, err := each(d, c.Creates, d.newLevel)
	return created, part("creates", err)
}
