package audit

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"unique"

	"github.com/stockledger/stockledger/events"
)

// A sheet is a table of a read model as the books have it: the columns that are
// compared as they are, and those that are kept as digests, some together.
type sheet struct {
	model, table string
	plain        []string
	words        [][]string
	number       string // the column that numbers the rows; "" for the position
}

func (s *sheet) name() string { return s.model + "." + s.table }

// ofPlaces reports whether its rows say what there is at a place, so that it takes
// all streams up to there to know what they should be.
func (s *sheet) ofPlaces() bool {
	return s == &movementsSheet || s == &placesSheet || s == &shelvesSheet
}

// A line is a row as the books have it.
type line struct {
	number uint64 // the value of the sheet's number: a position, or a movement's id
	plain  []text
	words  []uint64
}

var (
	itemsSheet = sheet{
		model: "inventory", table: "items",
		plain: []string{"position", "created_at", "updated_at", "deleted_at"},
		words: [][]string{{
			"id", "title", "description", "thumbnail", "origin_country", "hs_code", "mid_code", "material", "unit_of_measure",
			"weight", "length", "height", "width", "requires_shipping", "metadata",
		}, {"sku"}},
	}
	totalsSheet = sheet{
		model: "inventory", table: "totals",
		plain: []string{
			"position", "stocked_quantity", "reserved_quantity", "incoming_quantity", "available_quantity", "version", "item_deleted_at",
		},
	}
	levelsSheet = sheet{
		model: "inventory", table: "levels",
		plain: []string{
			"position", "location_id", "stocked_quantity", "reserved_quantity", "incoming_quantity", "available_quantity",
			"version", "created_at", "updated_at", "deleted_at",
		},
		words: [][]string{{"id", "inventory_item_id"}, {"metadata"}},
	}
	reservationsSheet = sheet{
		model: "inventory", table: "reservations",
		plain: []string{"position", "quantity", "fulfilled_quantity", "status", "version", "created_at", "updated_at", "deleted_at"},
		words: [][]string{
			{"id", "inventory_item_id"},
			{"level_id", "location_id"},
			{"line_item_id", "description", "external_id", "created_by", "allow_backorder", "metadata"},
		},
	}
	linksSheet = sheet{
		model: "inventory", table: "links",
		plain: []string{"position", "required_quantity", "version", "created_at", "updated_at", "deleted_at"},
		words: [][]string{{"variant_id", "inventory_item_id"}},
	}
	locationsSheet = sheet{
		model: "inventory", table: "locations",
		plain: []string{"position", "id", "links", "version", "created_at", "updated_at", "deleted_at"},
		words: [][]string{{"name", "address", "metadata"}},
	}
	locationLinksSheet = sheet{
		model: "inventory", table: "location_links",
		plain: []string{"kind", "id", "location_id"},
	}
	commandsSheet = sheet{
		model: "movements", table: "commands",
		plain: []string{
			"position", "events", "command_id", "command", "digest", "actor", "reason", "reference", "correlation_id", "causation_id",
			"recorded_at", "effective_at",
		},
	}
	placesSheet = sheet{
		model: "movements", table: "places",
		plain: []string{"position", "id"},
	}
	shelvesSheet = sheet{
		model: "movements", table: "levels",
		plain: []string{"position", "place", "prompt"},
		words: [][]string{{"id", "inventory_item_id"}},
	}
	movementsSheet = sheet{
		model: "movements", table: "movements", number: "id",
		plain: []string{
			"id", "level", "place", "kind", "reservation_id", "delta_stocked", "delta_reserved", "delta_incoming",
			"stocked", "reserved", "incoming", "place_stocked", "place_reserved",
			"effective_at", "dated", "dated_stocked", "dated_reserved", "dated_incoming",
		},
	}
	backdatedSheet = sheet{
		model: "movements", table: "backdated", number: "id",
		plain: []string{"id"},
		words: [][]string{{"level", "effective_at", "stocked", "reserved", "incoming"}},
	}
	endingsSheet = sheet{
		model: "movements", table: "endings", number: "id",
		plain: []string{"id"},
		words: [][]string{{"level", "effective_at", "deleted"}},
	}
	// What buckets there are depends on how events were gathered. That they add up is
	// an invariant.
	bucketsSheet = sheet{
		model: "movements", table: "buckets",
		plain: []string{"level", "effective_at", "id", "movements", "stocked", "reserved", "incoming"},
	}
)

// sheets are all tables of all read models.
var sheets = []*sheet{
	&itemsSheet, &totalsSheet, &levelsSheet, &reservationsSheet, &linksSheet, &locationsSheet, &locationLinksSheet,
	&commandsSheet, &placesSheet, &shelvesSheet, &movementsSheet, &backdatedSheet, &endingsSheet, &bucketsSheet,
}

// byPosition are the rows of a table of the books that were made from one position
// to another, in that order.
func byPosition[R any](rows map[key]*R, position func(*R) uint64, from, to uint64) []*R {
	var all []*R
	for _, r := range rows {
		if at := position(r); from <= at && at <= to {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *R) int { return cmp.Compare(position(a), position(b)) })
	return all
}

// lines yields what the rows of a sheet should be that the events from one position
// to another have made, in that order. The line is good until the next one.
func (b *books) lines(s *sheet, at *sites, from, to uint64) iter.Seq[*line] {
	switch s {
	case &itemsSheet:
		return linesOf(byPosition(b.items, func(r *itemRow) uint64 { return r.position }, from, to), itemLine)
	case &totalsSheet:
		return linesOf(byPosition(b.items, func(r *itemRow) uint64 { return r.position }, from, to), totalsLine)
	case &levelsSheet:
		return linesOf(byPosition(b.levels, func(r *levelRow) uint64 { return r.position }, from, to), levelLine)
	case &shelvesSheet:
		return linesOf(byPosition(b.levels, func(r *levelRow) uint64 { return r.position }, from, to), at.shelfLine)
	case &reservationsSheet:
		return linesOf(byPosition(b.reservations, func(r *reservationRow) uint64 { return r.position }, from, to), reservationLine)
	case &linksSheet:
		return linesOf(byPosition(b.links, func(r *linkRow) uint64 { return r.position }, from, to), linkLine)
	case &locationsSheet:
		return linesOf(byPosition(b.locations, func(r *locationRow) uint64 { return r.position }, from, to), locationLine)
	case &backdatedSheet:
		return linesOf(slices.Sorted(maps.Keys(b.backdated)), numbered(b.backdated))
	case &endingsSheet:
		return linesOf(slices.Sorted(maps.Keys(b.endings)), numbered(b.endings))
	}
	panic("audit: the books hold no lines of " + s.name())
}

func linesOf[R any](rows []R, render func(R, *line)) iter.Seq[*line] {
	return func(yield func(*line) bool) {
		var l line
		for _, r := range rows {
			l.plain, l.words = l.plain[:0], l.words[:0]
			render(r, &l)
			if !yield(&l) {
				return
			}
		}
	}
}

func (l *line) holds(h holding) {
	l.plain = append(l.plain, amounts(h[stocked]), amounts(h[reserved]), amounts(h[incoming]))
}

// begin starts a line with the position of the event that made the row.
func (l *line) begin(position uint64) {
	l.number = position
	l.plain = append(l.plain, number(position))
}

func (l *line) times(t *trail) {
	l.plain = append(l.plain, moment(t.created), moment(t.updated), optionalMoment(t.deleted))
}

func itemLine(r *itemRow, l *line) {
	l.begin(r.position)
	l.times(&r.trail)
	l.words = append(l.words, r.about, r.sku)
}

func totalsLine(r *itemRow, l *line) {
	l.begin(r.position)
	l.holds(r.total)
	l.plain = append(l.plain, amounts(r.total.available()), number(r.version), optionalMoment(r.deleted))
}

func levelLine(r *levelRow, l *line) {
	l.begin(r.position)
	l.plain = append(l.plain, known(r.location.Value()))
	l.holds(r.held)
	l.plain = append(l.plain, amounts(r.held.available()), number(r.version))
	l.times(&r.trail)
	l.words = append(l.words, r.about, r.metadata)
}

func reservationLine(r *reservationRow, l *line) {
	l.begin(r.position)
	l.plain = append(l.plain, amounts(r.quantity), amounts(r.taken), known(statusNames[r.status]), number(r.version))
	l.times(&r.trail)
	l.words = append(l.words, r.about, r.where, r.details)
}

func linkLine(r *linkRow, l *line) {
	l.begin(r.position)
	l.plain = append(l.plain, amounts(r.required), number(r.version))
	l.times(&r.trail)
	l.words = append(l.words, r.about)
}

func locationLine(r *locationRow, l *line) {
	l.begin(r.position)
	l.plain = append(l.plain, known(r.id), known(asJSON(r.links)), number(r.version))
	l.times(&r.trail)
	l.words = append(l.words, r.details)
}

func numbered(digests map[uint64]uint64) func(uint64, *line) {
	return func(id uint64, l *line) {
		l.begin(id)
		l.words = append(l.words, digests[id])
	}
}

// sites are the places where items are stocked, in the order of the log.
type sites struct {
	byID map[unique.Handle[string]]*site
}

type site struct {
	position uint64 // of the first level there
	held     holding
}

func newSites() *sites { return &sites{make(map[unique.Handle[string]]*site)} }

// apply takes in an event, and adds the places of its movements to rows, which
// hold what those came to there.
func (s *sites) apply(e *entry, rows map[uint64]siteRow) {
	if e.fact == nil {
		return
	}
	for i, st := range statementsOf(e.fact) {
		id := unique.Make(st.location)
		at := s.byID[id]
		if at == nil {
			at = &site{position: e.Position}
			s.byID[id] = at
		}
		at.held = at.held.plus(st.by)
		if st.recorded() {
			rows[movementID(e.Position, i)] = siteRow{at.position, at.held}
		}
	}
}

// A siteRow is what a movement led to at its place.
type siteRow struct {
	place uint64
	held  holding
}

func (s *sites) shelfLine(r *levelRow, l *line) {
	l.begin(r.position)
	var place text
	if at := s.byID[r.location]; at != nil {
		place = number(at.position)
	}
	prompt := number(r.prompt)
	if r.prompt == 0 {
		prompt = text{}
	}
	l.plain = append(l.plain, place, prompt)
	l.words = append(l.words, r.about)
}

// between yields the places whose first level was made from one position to another.
func (s *sites) between(from, to uint64) iter.Seq[*line] {
	var ids []unique.Handle[string]
	for id, at := range s.byID {
		if from <= at.position && at.position <= to {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b unique.Handle[string]) int { return cmp.Compare(s.byID[a].position, s.byID[b].position) })
	return linesOf(ids, func(id unique.Handle[string], l *line) {
		l.begin(s.byID[id].position)
		l.plain = append(l.plain, known(id.Value()))
	})
}

// movementLine is the line of a movement.
func movementLine(m *movementRow, at siteRow) *line {
	l := &line{number: m.id, plain: make([]text, 0, len(movementsSheet.plain))}
	l.plain = append(l.plain, number(m.id), number(m.level), number(at.place), known(m.kind), blank(m.reservation))
	l.holds(m.by)
	l.holds(m.after)
	l.plain = append(l.plain, amounts(at.held[stocked]), amounts(at.held[reserved]), m.effective)
	if m.late == nil {
		l.plain = append(l.plain, text{})
		l.holds(holding{})
	} else {
		l.plain = append(l.plain, number(m.late.count))
		l.holds(m.late.moved)
	}
	return l
}

// commandLine is the line of a commit, whose last event e is.
func commandLine(e *entry) *line {
	at, _ := e.effective()
	return &line{number: e.Position, plain: []text{
		number(e.Position), number(uint64(max(1, e.meta.Parts))), known(e.meta.CommandID), known(e.meta.Command), known(e.meta.Digest),
		blank(e.meta.Actor), blank(e.meta.Reason), blank(e.meta.Reference), blank(e.meta.Correlation), blank(e.meta.Causation),
		moment(e.at), moment(at),
	}}
}

// linkLines are the rows of the links of locations, by their values.
func linkLines(rows iter.Seq[*locationRow]) map[[3]string]uint64 {
	all := make(map[[3]string]uint64)
	for r := range rows {
		for _, kind := range []events.LinkKind{events.SalesChannel, events.FulfillmentProvider, events.FulfillmentSet} {
			for _, id := range r.links.IDs(kind) {
				all[[3]string{string(kind), id, r.id}] = r.position
			}
		}
	}
	return all
}
