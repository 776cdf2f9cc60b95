package commands_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A book is the whole ledger in plain maps, carried on by one thread. It knows
// the rules from docs/commands.md and nothing of package domain, and it answers
// with the bytes that the ledger must answer with.
type book struct {
	known bool // levels only at open locations

	items        map[string]bookItem
	levels       map[place]bookLevel
	reservations map[string]bookReservation
	links        map[bookLink]amount
	locations    map[string]bookLocation
	skus         map[string]string // the item that has it
	levelItem    map[string]string // of every level there ever was, by its id
	free         map[place]bool    // oversold on purpose, by a floor or a backorder
	commands     map[string]carried

	now     time.Time // of the command under way
	made    int       // ids
	changed bool      // by the command under way
	undo    []func()
}

type place struct{ item, location string }

type bookLink struct{ variant, item string }

type carried struct {
	sent     string // name and body
	result   []byte
	position uint64
}

// amount is a quantity in tenths.
type amount int64

func (a amount) MarshalJSON() ([]byte, error) {
	sign, n := "", a
	if n < 0 {
		sign, n = "-", -n
	}
	if n%10 == 0 {
		return fmt.Appendf(nil, "%s%d", sign, n/10), nil
	}
	return fmt.Appendf(nil, "%s%d.%d", sign, n/10, n%10), nil
}

type bookItem struct {
	ID       string         `json:"id"`
	SKU      *string        `json:"sku"`
	Title    *string        `json:"title"`
	A        *string        `json:"description"`
	B        *string        `json:"thumbnail"`
	C        *string        `json:"origin_country"`
	D        *string        `json:"hs_code"`
	E        *string        `json:"mid_code"`
	F        *string        `json:"material"`
	G        *string        `json:"unit_of_measure"`
	Weight   *amount        `json:"weight"`
	H        *amount        `json:"length"`
	I        *amount        `json:"height"`
	J        *amount        `json:"width"`
	Shipping bool           `json:"requires_shipping"`
	Metadata map[string]any `json:"metadata"`
	Stocked  amount         `json:"stocked_quantity"`
	Reserved amount         `json:"reserved_quantity"`
	Levels   []bookLevel    `json:"location_levels"`
	Version  int            `json:"version"`
	Created  time.Time      `json:"created_at"`
	Updated  time.Time      `json:"updated_at"`
	Deleted  *time.Time     `json:"deleted_at"`

	removed      []bookLevel // by its deletion
	removedLinks map[string]amount
}

type bookLevel struct {
	ID        string         `json:"id"`
	Item      string         `json:"inventory_item_id"`
	Location  string         `json:"location_id"`
	Stocked   amount         `json:"stocked_quantity"`
	Reserved  amount         `json:"reserved_quantity"`
	Incoming  amount         `json:"incoming_quantity"`
	Available amount         `json:"available_quantity"`
	Metadata  map[string]any `json:"metadata"`
	Version   int            `json:"version"`
	Created   time.Time      `json:"created_at"`
	Updated   time.Time      `json:"updated_at"`
	Deleted   *time.Time     `json:"deleted_at"`
}

type bookReservation struct {
	ID          string         `json:"id"`
	Item        string         `json:"inventory_item_id"`
	Location    string         `json:"location_id"`
	Quantity    amount         `json:"quantity"`
	Line        *string        `json:"line_item_id"`
	Description *string        `json:"description"`
	External    *string        `json:"external_id"`
	CreatedBy   *string        `json:"created_by"`
	Backorder   bool           `json:"allow_backorder"`
	Metadata    map[string]any `json:"metadata"`
	Created     time.Time      `json:"created_at"`
	Updated     time.Time      `json:"updated_at"`
	Released    *time.Time     `json:"deleted_at"`
}

func (r bookReservation) at() place { return place{r.Item, r.Location} }

type linkRow struct {
	Variant  string `json:"variant_id"`
	Item     string `json:"inventory_item_id"`
	Required amount `json:"required_quantity"`
}

type bookLocation struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Address   *address       `json:"address"`
	Metadata  map[string]any `json:"metadata"`
	Channels  []string       `json:"sales_channels"`
	Providers []string       `json:"fulfillment_providers"`
	Sets      []fulfilment   `json:"fulfillment_sets"`
	Created   time.Time      `json:"created_at"`
	Updated   time.Time      `json:"updated_at"`
	Closed    *time.Time     `json:"deleted_at"`
}

type address struct {
	Address1 string         `json:"address_1"`
	Address2 *string        `json:"address_2"`
	Company  *string        `json:"company"`
	City     *string        `json:"city"`
	Country  string         `json:"country_code"`
	Phone    *string        `json:"phone"`
	Postal   *string        `json:"postal_code"`
	Province *string        `json:"province"`
	Metadata map[string]any `json:"metadata"`
}

type fulfilment struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// A bookLine is a line of any command. What may be absent, null or a value is raw.
type bookLine struct {
	ID          string          `json:"id,omitempty"`
	Item        string          `json:"inventory_item_id,omitempty"`
	Location    string          `json:"location_id,omitempty"`
	Variant     string          `json:"variant_id,omitempty"`
	Required    *amount         `json:"required_quantity,omitempty"`
	Adjustment  *amount         `json:"adjustment,omitempty"`
	Stocked     *amount         `json:"stocked_quantity,omitempty"`
	Incoming    *amount         `json:"incoming_quantity,omitempty"`
	Quantity    *amount         `json:"quantity,omitempty"`
	Line        json.RawMessage `json:"line_item_id,omitempty"`
	Description json.RawMessage `json:"description,omitempty"`
	Backorder   *bool           `json:"allow_backorder,omitempty"`
	Floor       string          `json:"floor,omitempty"`
	Expect      *bookExpect     `json:"expect,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	SKU         json.RawMessage `json:"sku,omitempty"`
	Title       json.RawMessage `json:"title,omitempty"`
	Weight      *amount         `json:"weight,omitempty"`
	Shipping    *bool           `json:"requires_shipping,omitempty"`
	Levels      []bookLine      `json:"location_levels,omitempty"`
	Name        string          `json:"name,omitempty"`
	Address     json.RawMessage `json:"address,omitempty"`
	Channels    *bookChanges    `json:"sales_channels,omitempty"`
	Providers   *bookChanges    `json:"fulfillment_providers,omitempty"`
	Sets        *bookSets       `json:"fulfillment_sets,omitempty"`
}

type bookExpect struct {
	Stocked  *amount `json:"stocked_quantity,omitempty"`
	Reserved *amount `json:"reserved_quantity,omitempty"`
	Version  *int    `json:"version,omitempty"`
}

type bookChanges struct {
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

type bookSets struct {
	Add    []fulfilment `json:"add,omitempty"`
	Remove []string     `json:"remove,omitempty"`
}

// An order is a command as it is sent. Which of its parts it has depends on its name.
type order struct {
	name                     string
	lines                    []bookLine // an array
	ids                      []string   // or names
	create, update, remove   []bookLine // or a batch of three parts
	removeIDs                []string
	ofItems, atLocations, by []string // or a choice of levels: by id, item, location
	force                    bool
}

func (o order) body() string {
	object := map[string]any{}
	put := func(name string, list any) {
		if reflect.ValueOf(list).Len() > 0 {
			object[name] = list
		}
	}
	if o.force {
		object["force"] = true
	}
	var body any = object
	switch o.name {
	case "delete-inventory-levels":
		put("id", o.by)
		put("inventory_item_id", o.ofItems)
		put("location_id", o.atLocations)
	case "delete-levels-by-location":
		put("location_id", o.atLocations)
	case "batch-inventory-item-levels":
		put("create", o.create)
		put("update", o.update)
		put("delete", o.removeIDs)
	case "bulk-create-delete-levels":
		put("creates", o.create)
		put("deletes", o.remove)
	case "batch-inventory-links":
		put("create", o.create)
		put("update", o.update)
		put("delete", o.remove)
	default:
		if body = o.lines; o.ids != nil {
			body = o.ids
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A no is a refusal: one of the codes, about a line counted from 1, or 0.
type no struct {
	codes string
	line  int
}

func (n *no) Error() string { return fmt.Sprintf("%s in line %d", n.codes, n.line) }

func refuse(code string) *no { return &no{codes: code} }

func newBook(known bool) *book {
	return &book{
		known: known, items: map[string]bookItem{}, levels: map[place]bookLevel{}, reservations: map[string]bookReservation{},
		links: map[bookLink]amount{}, locations: map[string]bookLocation{}, skus: map[string]string{},
		levelItem: map[string]string{}, free: map[place]bool{}, commands: map[string]carried{},
	}
}

// write sets a row, and remembers how it was.
func write[K comparable, V any](b *book, rows map[K]V, key K, row V) {
	before, was := rows[key]
	b.undo = append(b.undo, func() {
		if was {
			rows[key] = before
		} else {
			delete(rows, key)
		}
	})
	rows[key] = row
}

func erase[K comparable, V any](b *book, rows map[K]V, key K) {
	if before, was := rows[key]; was {
		b.undo = append(b.undo, func() { rows[key] = before })
		delete(rows, key)
	}
}

// do carries a command out at an instant, and keeps what it did if it is
// accepted and not only tried. order is that of the ids in the ledger's answer
// where the documents promise none.
func (b *book) do(o order, now time.Time, keep bool, ids []string) (result []byte, refused *no) {
	b.now, b.changed, b.undo = now, false, b.undo[:0]
	row, refused := b.carryOut(o, ids)
	if refused == nil {
		var err error
		if result, err = json.Marshal(row); err != nil {
			panic(err)
		}
	}
	if refused != nil || !keep {
		for _, undo := range slices.Backward(b.undo) {
			undo()
		}
	}
	return result, refused
}

func (b *book) carryOut(o order, ids []string) (any, *no) {
	switch o.name {
	case "create-stock-locations":
		return eachOf(o.lines, b.openLocation)
	case "update-stock-locations":
		return eachOf(o.lines, b.updateLocation)
	case "update-stock-location-links":
		return eachOf(o.lines, b.linkLocation)
	case "delete-stock-locations":
		return b.named(o.ids, b.closeLocation)
	case "create-inventory-items":
		return eachOf(o.lines, b.createItem)
	case "update-inventory-items":
		return eachOf(o.lines, b.updateItem)
	case "delete-inventory-items":
		return b.named(o.ids, b.deleteItem)
	case "restore-inventory-items":
		return eachOf(o.ids, b.restoreItem)
	case "create-inventory-levels":
		return eachOf(o.lines, b.createLevel)
	case "update-inventory-levels":
		return eachOf(o.lines, b.updateLevel)
	case "adjust-inventory-levels":
		return eachOf(o.lines, b.adjust)
	case "batch-inventory-item-levels":
		return b.batchLevels(o)
	case "bulk-create-delete-levels":
		if _, err := eachOf(o.remove, func(l bookLine) (string, *no) { return "", b.deleteLevel(place{l.Item, l.Location}, false) }); err != nil {
			return nil, err
		}
		return eachOf(o.create, b.createLevel)
	case "delete-inventory-levels":
		return b.deleteLevels(o)
	case "delete-levels-by-location":
		deleted, err := b.deleteLevelsAt(o.atLocations, o.force)
		return namesOf(deleted), err
	case "create-reservations":
		return eachOf(o.lines, b.reserve)
	case "update-reservations":
		return eachOf(o.lines, b.updateReservation)
	case "fulfill-reservations":
		return eachOf(o.lines, b.fulfil)
	case "delete-reservations":
		return b.named(o.ids, func(id string) *no {
			r, found := b.reservations[id]
			if !found {
				return refuse("not_found")
			}
			b.letGo(r)
			return nil
		})
	case "restore-reservations":
		return eachOf(o.ids, b.restoreReservation)
	case "delete-reservations-by-line-item":
		return b.letGoAll(o.ids, ids, func(r bookReservation, line string) bool { return r.Line != nil && *r.Line == line })
	case "delete-reservations-by-location":
		return b.letGoAll(o.ids, ids, func(r bookReservation, location string) bool { return r.Location == location })
	case "attach-inventory-items":
		return eachOf(o.lines, b.attach)
	case "update-inventory-links":
		return eachOf(o.lines, b.updateLink)
	case "detach-inventory-items":
		return eachOf(o.lines, b.detach)
	case "batch-inventory-links":
		return b.batchLinks(o)
	}
	panic(o.name)
}

func eachOf[L, R any](lines []L, do func(L) (R, *no)) ([]R, *no) {
	rows := make([]R, len(lines))
	for i, line := range lines {
		row, err := do(line)
		if err != nil {
			err.line = i + 1
			return nil, err
		}
		rows[i] = row
	}
	return rows, nil
}

func (b *book) named(ids []string, do func(string) *no) (any, *no) {
	_, err := eachOf(ids, func(id string) (string, *no) { return "", do(id) })
	return namesOf(ids), err
}

func namesOf(ids []string) any {
	return map[string][]string{"ids": append([]string{}, ids...)}
}

// madeInTheBook is in the ids that the book makes, which are others than the ledger's.
const madeInTheBook = "_00000000-0000-7000-8000-"

func (b *book) makeID(kind string) string {
	b.made++
	return fmt.Sprintf("%s%s%012d", kind, madeInTheBook, b.made)
}

// text reads what may be absent, null or a text.
func text(raw json.RawMessage, into **string) {
	if raw != nil {
		*into = nil
		mustRead(raw, into)
	}
}

func mustRead(raw json.RawMessage, into any) {
	if err := json.Unmarshal(raw, into); err != nil {
		panic(err)
	}
}

// merged lays the keys of a change over metadata.
func merged(old map[string]any, change json.RawMessage) map[string]any {
	if change == nil {
		return old
	}
	var keys map[string]any
	mustRead(change, &keys)
	if keys == nil {
		return nil
	}
	after := map[string]any{}
	maps.Copy(after, old)
	for key, value := range keys {
		if after[key] = value; value == nil {
			delete(after, key)
		}
	}
	return after
}

// Locations.

func (b *book) open(id string) bool {
	l, found := b.locations[id]
	return found && l.Closed == nil
}

func (b *book) openLocation(n bookLine) (bookLocation, *no) {
	if _, found := b.locations[n.ID]; found {
		return bookLocation{}, refuse("location_exists")
	}
	l := bookLocation{
		ID: cmp.Or(n.ID, b.makeID("sloc")), Name: n.Name, Metadata: merged(nil, n.Metadata), Channels: []string{}, Providers: []string{},
		Sets: []fulfilment{}, Created: b.now,
	}
	if n.Address != nil {
		mustRead(n.Address, &l.Address)
	}
	return b.keepLocation(l), nil
}

func (b *book) keepLocation(l bookLocation) bookLocation {
	b.changed, l.Updated = true, b.now
	write(b, b.locations, l.ID, l)
	return l
}

func (b *book) updateLocation(n bookLine) (bookLocation, *no) {
	if !b.open(n.ID) {
		return bookLocation{}, refuse("not_found")
	}
	l := b.locations[n.ID]
	before := l
	l.Name = cmp.Or(n.Name, l.Name)
	l.Metadata = merged(l.Metadata, n.Metadata)
	if n.Address != nil {
		l.Address = nil
		mustRead(n.Address, &l.Address)
	}
	if reflect.DeepEqual(before, l) {
		return l, nil
	}
	return b.keepLocation(l), nil
}

func (b *book) linkLocation(n bookLine) (bookLocation, *no) {
	if !b.open(n.ID) {
		return bookLocation{}, refuse("not_found")
	}
	l := b.locations[n.ID]
	before := l
	for _, kind := range []struct {
		change *bookChanges
		ids    *[]string
	}{{n.Channels, &l.Channels}, {n.Providers, &l.Providers}} {
		if kind.change == nil {
			continue
		}
		*kind.ids = slices.DeleteFunc(slices.Clone(*kind.ids), func(id string) bool { return slices.Contains(kind.change.Remove, id) })
		for _, id := range kind.change.Add {
			if !slices.Contains(*kind.ids, id) {
				*kind.ids = append(*kind.ids, id)
			}
		}
	}
	if n.Sets != nil {
		l.Sets = slices.DeleteFunc(slices.Clone(l.Sets), func(s fulfilment) bool { return slices.Contains(n.Sets.Remove, s.ID) })
		for _, set := range n.Sets.Add {
			there, err := setThere(l.Sets, set)
			if err != nil {
				return bookLocation{}, err
			}
			if set.ID = cmp.Or(set.ID, b.makeID("fuset")); !there {
				l.Sets = append(l.Sets, set)
			}
		}
	}
	if reflect.DeepEqual(before, l) {
		return l, nil
	}
	return b.keepLocation(l), nil
}

// setThere reports whether a location has the set, or refuses another one of that id or name.
func setThere(sets []fulfilment, set fulfilment) (bool, *no) {
	for _, s := range sets {
		switch {
		case s.Name == set.Name && s.Type == set.Type && (set.ID == "" || set.ID == s.ID):
			return true, nil
		case s.Name == set.Name, s.ID == set.ID:
			return false, refuse("fulfillment_set_exists")
		}
	}
	return false, nil
}

func (b *book) closeLocation(id string) *no {
	l, found := b.locations[id]
	if !found {
		return refuse("not_found")
	}
	if l.Closed == nil {
		now := b.now
		l.Closed, l.Channels, l.Providers, l.Sets = &now, []string{}, []string{}, []fulfilment{}
		b.keepLocation(l)
	}
	return nil
}

// Items.

func (b *book) lives(item string) bool {
	it, found := b.items[item]
	return found && it.Deleted == nil
}

// fact counts one event of an item's stream.
func (b *book) fact(item string, change func(it *bookItem)) int {
	it := b.items[item]
	b.changed, it.Updated = true, b.now
	it.Version++
	change(&it)
	write(b, b.items, item, it)
	return it.Version
}

func unchanged(*bookItem) {}

// levelsOf are the levels of an item, oldest first.
func (b *book) levelsOf(item string) []bookLevel {
	all := []bookLevel{}
	for at, l := range b.levels {
		if at.item == item {
			all = append(all, b.row(l))
		}
	}
	slices.SortFunc(all, func(x, y bookLevel) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return all
}

func (b *book) itemRow(item string) bookItem {
	it := b.items[item]
	it.Levels = b.levelsOf(item)
	for _, l := range it.Levels {
		it.Stocked += l.Stocked
		it.Reserved += l.Reserved
	}
	return it
}

func (b *book) claim(sku *string, item string) *no {
	if sku == nil {
		return nil
	}
	if owner, taken := b.skus[*sku]; taken && owner != item {
		return refuse("sku_taken")
	}
	write(b, b.skus, *sku, item)
	return nil
}

func (b *book) freeSKU(sku *string) {
	if sku != nil {
		erase(b, b.skus, *sku)
	}
}

func (b *book) createItem(n bookLine) (bookItem, *no) {
	if _, found := b.items[n.ID]; found {
		return bookItem{}, refuse("item_exists")
	}
	it := bookItem{ID: cmp.Or(n.ID, b.makeID("iitem")), Shipping: true, Created: b.now}
	it.lay(n)
	if err := b.claim(it.SKU, it.ID); err != nil {
		return bookItem{}, err
	}
	write(b, b.items, it.ID, it)
	b.fact(it.ID, unchanged)
	for _, l := range n.Levels {
		l.Item = it.ID
		if _, err := b.createLevel(l); err != nil {
			return bookItem{}, err
		}
	}
	return b.itemRow(it.ID), nil
}

// lay lays the attributes of a line over those of the item.
func (it *bookItem) lay(n bookLine) {
	text(n.SKU, &it.SKU)
	text(n.Title, &it.Title)
	if n.Weight != nil {
		it.Weight = n.Weight
	}
	if n.Shipping != nil {
		it.Shipping = *n.Shipping
	}
	it.Metadata = merged(it.Metadata, n.Metadata)
}

func (b *book) updateItem(n bookLine) (bookItem, *no) {
	if !b.lives(n.ID) {
		return bookItem{}, refuse("not_found")
	}
	it := b.items[n.ID]
	before := it
	it.lay(n)
	if reflect.DeepEqual(before, it) {
		return b.itemRow(n.ID), nil
	}
	if !reflect.DeepEqual(before.SKU, it.SKU) {
		if err := b.claim(it.SKU, n.ID); err != nil {
			return bookItem{}, err
		}
		b.freeSKU(before.SKU)
	}
	b.fact(n.ID, func(old *bookItem) { old.lay(n) })
	return b.itemRow(n.ID), nil
}

func (b *book) deleteItem(id string) *no {
	it, found := b.items[id]
	switch {
	case !found:
		return refuse("not_found")
	case it.Deleted != nil:
		return nil
	}
	for _, r := range b.reservations {
		if r.Item == id && r.Released == nil {
			return refuse("item_has_reservations")
		}
	}
	removed := b.levelsOf(id)
	for _, l := range removed {
		erase(b, b.levels, place{id, l.Location})
		b.fact(id, unchanged)
	}
	links := map[string]amount{}
	for link, required := range b.links {
		if link.item == id {
			links[link.variant] = required
		}
	}
	for variant := range links {
		erase(b, b.links, bookLink{variant, id})
	}
	b.freeSKU(it.SKU)
	now := b.now
	b.fact(id, func(it *bookItem) { it.Deleted, it.removed, it.removedLinks = &now, removed, links })
	return nil
}

func (b *book) restoreItem(id string) (bookItem, *no) {
	it, found := b.items[id]
	switch {
	case !found:
		return bookItem{}, refuse("not_found")
	case it.Deleted == nil:
		return b.itemRow(id), nil
	}
	if err := b.claim(it.SKU, id); err != nil {
		return bookItem{}, err
	}
	b.fact(id, func(it *bookItem) { it.Deleted, it.removed, it.removedLinks = nil, nil, nil })
	for _, l := range it.removed {
		b.change(l)
	}
	for variant, required := range it.removedLinks {
		write(b, b.links, bookLink{variant, id}, required)
	}
	return b.itemRow(id), nil
}

// Levels.

func (b *book) reserved(at place) (sum amount) {
	for _, r := range b.reservations {
		if r.Released == nil && r.at() == at {
			sum += r.Quantity
		}
	}
	return sum
}

// row is a level with what is derived: reserved is the sum of the reservations.
func (b *book) row(l bookLevel) bookLevel {
	l.Reserved = b.reserved(place{l.Item, l.Location})
	l.Available = l.Stocked - l.Reserved
	return l
}

func (b *book) level(at place) (bookLevel, *no) {
	l, found := b.levels[at]
	if !found {
		return bookLevel{}, refuse("not_found")
	}
	return b.row(l), nil
}

// change sets a level by one event.
func (b *book) change(l bookLevel) bookLevel {
	l.Version, l.Updated = b.fact(l.Item, unchanged), b.now
	write(b, b.levels, place{l.Item, l.Location}, l)
	return b.row(l)
}

func (b *book) createLevel(n bookLine) (bookLevel, *no) {
	at := place{n.Item, n.Location}
	_, stocked := b.levels[at]
	_, used := b.levelItem[n.ID]
	switch {
	case b.known && !b.open(n.Location):
		return bookLevel{}, refuse("not_found")
	case n.ID != "" && used:
		return bookLevel{}, refuse("level_exists")
	case !b.lives(n.Item):
		return bookLevel{}, refuse("not_found")
	case stocked:
		return bookLevel{}, refuse("level_exists")
	case n.Stocked != nil && *n.Stocked < 0, n.Incoming != nil && *n.Incoming < 0:
		return bookLevel{}, refuse("invalid_quantity")
	}
	l := bookLevel{ID: cmp.Or(n.ID, b.makeID("ilev")), Item: n.Item, Location: n.Location, Metadata: merged(nil, n.Metadata), Created: b.now}
	if n.Stocked != nil {
		l.Stocked = *n.Stocked
	}
	if n.Incoming != nil {
		l.Incoming = *n.Incoming
	}
	write(b, b.levelItem, l.ID, l.Item)
	write(b, b.free, at, false)
	return b.change(l), nil
}

func (e *bookExpect) met(l bookLevel) *no {
	switch {
	case e == nil:
	case e.Stocked != nil && *e.Stocked != l.Stocked, e.Reserved != nil && *e.Reserved != l.Reserved, e.Version != nil && *e.Version != l.Version:
		return refuse("expectation_failed")
	}
	return nil
}

// stock refuses to bring a level below its floor.
func (b *book) stock(l bookLevel, to amount, floor string) *no {
	switch {
	case to >= l.Stocked:
		return nil
	case floor == "zero" && to < 0:
		return refuse("below_zero")
	case (floor == "" || floor == "reserved") && to < l.Reserved:
		return refuse("below_reserved")
	}
	if floor == "zero" || floor == "none" {
		write(b, b.free, place{l.Item, l.Location}, true)
	}
	return nil
}

func (b *book) levelByID(id string) (bookLevel, bool) {
	for _, l := range b.levels {
		if l.ID == id {
			return l, true
		}
	}
	return bookLevel{}, false
}

func (b *book) updateLevel(n bookLine) (bookLevel, *no) {
	if n.Item == "" {
		l, found := b.levelByID(n.ID)
		if !found {
			return bookLevel{}, refuse("not_found")
		}
		n.Item, n.Location = l.Item, l.Location
	}
	l, err := b.level(place{n.Item, n.Location})
	if err != nil {
		return bookLevel{}, err
	}
	if n.ID != "" && n.ID != l.ID {
		return bookLevel{}, refuse("level_mismatch")
	}
	if err := n.Expect.met(l); err != nil {
		return bookLevel{}, err
	}
	if n.Stocked != nil && *n.Stocked != l.Stocked {
		if err := b.stock(l, *n.Stocked, n.Floor); err != nil {
			return bookLevel{}, err
		}
		l.Stocked = *n.Stocked
		l = b.change(l)
	}
	if n.Incoming != nil && *n.Incoming != l.Incoming {
		if *n.Incoming < 0 {
			return bookLevel{}, refuse("invalid_quantity")
		}
		l.Incoming = *n.Incoming
		l = b.change(l)
	}
	if after := merged(l.Metadata, n.Metadata); !reflect.DeepEqual(after, l.Metadata) {
		l.Metadata = after
		l = b.change(l)
	}
	return l, nil
}

func (b *book) adjust(n bookLine) (bookLevel, *no) {
	l, err := b.level(place{n.Item, n.Location})
	if err != nil {
		return bookLevel{}, err
	}
	if err := n.Expect.met(l); err != nil {
		return bookLevel{}, err
	}
	if *n.Adjustment == 0 {
		return l, nil
	}
	to := l.Stocked + *n.Adjustment
	if err := b.stock(l, to, n.Floor); err != nil {
		return bookLevel{}, err
	}
	l.Stocked = to
	return b.change(l), nil
}

func (b *book) deleteLevel(at place, force bool) *no {
	l, err := b.level(at)
	switch {
	case err != nil:
		return err
	case l.Reserved != 0:
		return refuse("level_has_reservations")
	case l.Incoming != 0:
		return refuse("level_has_incoming")
	case l.Stocked != 0 && !force:
		return refuse("level_has_stock")
	}
	erase(b, b.levels, at)
	b.fact(at.item, unchanged)
	return nil
}

func (b *book) deleteLevelsByID(ids []string, force bool) ([]string, *no) {
	return eachOf(ids, func(id string) (string, *no) {
		if _, ever := b.levelItem[id]; !ever {
			return "", refuse("not_found")
		}
		l, found := b.levelByID(id)
		if !found {
			return id, nil
		}
		return id, b.deleteLevel(place{l.Item, l.Location}, force)
	})
}

// deleteLevelsAt deletes the levels at locations, in no order that is promised:
// any of the codes of those that are not deleted may be the answer.
func (b *book) deleteLevelsAt(locations []string, force bool) ([]string, *no) {
	var deleted []string
	_, refused := eachOf(locations, func(location string) (string, *no) {
		var codes []string
		for at, l := range maps.Clone(b.levels) {
			if at.location != location {
				continue
			}
			if err := b.deleteLevel(at, force); err != nil {
				codes = append(codes, err.codes)
			}
			deleted = append(deleted, l.ID)
		}
		if codes != nil {
			return "", refuse(strings.Join(codes, " "))
		}
		return "", nil
	})
	return deleted, refused
}

func (b *book) deleteLevels(o order) (any, *no) {
	deleted, err := b.deleteLevelsByID(o.by, o.force)
	if err != nil {
		return nil, err
	}
	for _, item := range o.ofItems {
		if !b.lives(item) {
			return nil, refuse("not_found")
		}
		for _, l := range b.levelsOf(item) {
			if len(o.atLocations) > 0 && !slices.Contains(o.atLocations, l.Location) {
				continue
			}
			if err := b.deleteLevel(place{item, l.Location}, o.force); err != nil {
				return nil, err
			}
			deleted = append(deleted, l.ID)
		}
	}
	if len(o.ofItems) > 0 {
		return namesOf(deleted), nil
	}
	more, err := b.deleteLevelsAt(o.atLocations, o.force)
	return namesOf(append(deleted, more...)), err
}

func (b *book) batchLevels(o order) (any, *no) {
	deleted, err := b.deleteLevelsByID(o.removeIDs, o.force)
	if err != nil {
		return nil, err
	}
	created, err := eachOf(o.create, b.createLevel)
	if err != nil {
		return nil, err
	}
	updated, err := eachOf(o.update, b.updateLevel)
	return struct {
		Created []bookLevel `json:"created"`
		Updated []bookLevel `json:"updated"`
		Deleted []string    `json:"deleted"`
	}{created, updated, deleted}, err
}

// Reservations.

// hold refuses to set aside what is not available.
func (b *book) hold(at place, more amount, backorder bool) (bookLevel, *no) {
	l, err := b.level(at)
	switch {
	case err != nil:
		return l, err
	case l.Available < more && !backorder:
		return l, refuse("insufficient_stock")
	}
	if backorder {
		write(b, b.free, at, true)
	}
	return l, nil
}

// keep sets a reservation by one event, and with it the level where it is.
func (b *book) keep(r bookReservation) bookReservation {
	r.Updated = b.now
	write(b, b.reservations, r.ID, r)
	b.change(b.levels[r.at()])
	return r
}

func (b *book) reserve(n bookLine) (bookReservation, *no) {
	if _, used := b.reservations[n.ID]; used {
		return bookReservation{}, refuse("reservation_exists")
	}
	at := place{n.Item, n.Location}
	l, err := b.level(at)
	if err != nil {
		return bookReservation{}, err
	}
	if err := n.Expect.met(l); err != nil {
		return bookReservation{}, err
	}
	if *n.Quantity <= 0 {
		return bookReservation{}, refuse("invalid_quantity")
	}
	r := bookReservation{
		ID: cmp.Or(n.ID, b.makeID("resitem")), Item: n.Item, Location: n.Location, Quantity: *n.Quantity,
		Backorder: n.Backorder != nil && *n.Backorder, Metadata: merged(nil, n.Metadata), Created: b.now,
	}
	text(n.Line, &r.Line)
	text(n.Description, &r.Description)
	if _, err := b.hold(at, r.Quantity, r.Backorder); err != nil {
		return bookReservation{}, err
	}
	return b.keep(r), nil
}

// move takes a reservation to another place by one event, which both levels have.
func (b *book) move(r bookReservation, to place) bookReservation {
	from := b.levels[r.at()]
	r.Location, r.Updated = to.location, b.now
	write(b, b.reservations, r.ID, r)
	l := b.change(b.levels[to])
	from.Version, from.Updated = l.Version, b.now
	write(b, b.levels, place{from.Item, from.Location}, from)
	return r
}

func (b *book) updateReservation(n bookLine) (bookReservation, *no) {
	r, found := b.reservations[n.ID]
	switch {
	case !found || r.Released != nil:
		return r, refuse("not_found")
	case n.Quantity != nil && *n.Quantity <= 0:
		return r, refuse("invalid_quantity")
	}
	after := r
	if n.Quantity != nil {
		after.Quantity = *n.Quantity
	}
	if n.Backorder != nil {
		after.Backorder = *n.Backorder
	}
	text(n.Line, &after.Line)
	text(n.Description, &after.Description)
	after.Metadata = merged(after.Metadata, n.Metadata)
	differs := !reflect.DeepEqual(r, after)

	to := place{r.Item, cmp.Or(n.Location, r.Location)}
	if to == r.at() {
		if after.Quantity > r.Quantity {
			if _, err := b.hold(to, after.Quantity-r.Quantity, after.Backorder); err != nil {
				return r, err
			}
		}
		if !differs {
			return r, nil
		}
		return b.keep(after), nil
	}
	if _, err := b.hold(to, after.Quantity, after.Backorder); err != nil {
		return r, err
	}
	if grows := after.Quantity > r.Quantity; !grows { // shrink first, grow last
		if differs {
			r = b.keep(after)
		}
		return b.move(r, to), nil
	}
	after.Location = b.move(r, to).Location
	return b.keep(after), nil
}

func (b *book) fulfil(n bookLine) (bookReservation, *no) {
	if _, found := b.reservations[n.ID]; !found {
		return bookReservation{}, refuse("not_found")
	}
	if n.Location != "" {
		if _, err := b.updateReservation(bookLine{ID: n.ID, Location: n.Location}); err != nil {
			return bookReservation{}, err
		}
	}
	r := b.reservations[n.ID]
	if r.Released != nil {
		return r, refuse("not_found")
	}
	l, err := b.level(r.at())
	if err != nil {
		return r, err
	}
	if err := n.Expect.met(l); err != nil {
		return r, err
	}
	q := r.Quantity
	if n.Quantity != nil {
		q = *n.Quantity
	}
	switch {
	case q <= 0:
		return r, refuse("invalid_quantity")
	case q > r.Quantity:
		return r, refuse("exceeds_reservation")
	case l.Stocked < q && n.Floor != "none":
		return r, refuse("insufficient_stock")
	case n.Floor == "none":
		write(b, b.free, r.at(), true)
	}
	stocked := b.levels[r.at()]
	stocked.Stocked -= q
	write(b, b.levels, r.at(), stocked)
	if r.Quantity -= q; r.Quantity == 0 {
		now := b.now
		r.Released = &now
	}
	return b.keep(r), nil
}

func (b *book) letGo(r bookReservation) {
	if r.Released == nil {
		now := b.now
		r.Released = &now
		b.keep(r)
	}
}

func (b *book) letGoAll(keys, ids []string, match func(r bookReservation, key string) bool) (any, *no) {
	var all []string
	for _, key := range keys {
		var found []bookReservation
		for _, r := range b.reservations {
			if r.Released == nil && match(r, key) {
				found = append(found, r)
			}
		}
		slices.SortFunc(found, func(x, y bookReservation) int { // as the ledger did
			return cmp.Or(cmp.Compare(slices.Index(ids, x.ID), slices.Index(ids, y.ID)), cmp.Compare(x.ID, y.ID))
		})
		for _, r := range found {
			b.letGo(r)
			all = append(all, r.ID)
		}
	}
	return namesOf(all), nil
}

func (b *book) restoreReservation(id string) (bookReservation, *no) {
	r, found := b.reservations[id]
	switch {
	case !found:
		return r, refuse("not_found")
	case r.Released == nil:
		return r, nil
	case r.Quantity == 0:
		return r, refuse("reservation_used_up")
	}
	if _, err := b.hold(r.at(), r.Quantity, r.Backorder); err != nil {
		return r, err
	}
	r.Released = nil
	return b.keep(r), nil
}

// Links.

func (b *book) attach(n bookLine) (linkRow, *no) {
	if !b.lives(n.Item) {
		return linkRow{}, refuse("not_found")
	}
	link := bookLink{n.Variant, n.Item}
	required, linked := b.links[link]
	switch {
	case n.Required != nil && *n.Required <= 0:
		return linkRow{}, refuse("invalid_quantity")
	case n.Required != nil:
		required = *n.Required
	case !linked:
		required = 10
	}
	b.setLink(link, required)
	return linkRow{n.Variant, n.Item, required}, nil
}

func (b *book) setLink(link bookLink, required amount) {
	if before, linked := b.links[link]; !linked || before != required {
		b.changed = true
		write(b, b.links, link, required)
	}
}

func (b *book) updateLink(n bookLine) (linkRow, *no) {
	link := bookLink{n.Variant, n.Item}
	if _, linked := b.links[link]; !linked {
		return linkRow{}, refuse("not_found")
	}
	if *n.Required <= 0 {
		return linkRow{}, refuse("invalid_quantity")
	}
	b.setLink(link, *n.Required)
	return linkRow{n.Variant, n.Item, *n.Required}, nil
}

func (b *book) detach(n bookLine) (linkRow, *no) {
	link := bookLink{n.Variant, n.Item}
	required, linked := b.links[link]
	if linked {
		b.changed = true
		erase(b, b.links, link)
	}
	return linkRow{n.Variant, n.Item, required}, nil
}

func (b *book) batchLinks(o order) (any, *no) {
	deleted, err := eachOf(o.remove, b.detach)
	if err != nil {
		return nil, err
	}
	created, err := eachOf(o.create, b.attach)
	if err != nil {
		return nil, err
	}
	updated, err := eachOf(o.update, b.updateLink)
	return struct {
		Created []linkRow `json:"created"`
		Updated []linkRow `json:"updated"`
		Deleted []linkRow `json:"deleted"`
	}{created, updated, deleted}, err
}
