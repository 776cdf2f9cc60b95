package refusals

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	stdjson "encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The bounds of an answer.
const (
	defaultTake   = 50
	maxTake       = 1000
	defaultCounts = 1000
	maxCounts     = 10_000
)

// The queries.
const (
	listQuery   = "list-refusals"
	countsQuery = "refusal-counts"
)

// QueryNames are the names that Query knows, each with a line on what it answers.
func QueryNames() map[string]string {
	return map[string]string{
		listQuery:   "refused commands, newest first, by command, code, item, location, actor and more",
		countsQuery: "how many commands were refused, by day, command and code, or by item",
	}
}

// Types are values of the types that a query is asked with and answered.
func Types(query string) (asked, answer any) {
	if query == listQuery {
		return List{}, Page{}
	}
	return Counts{}, Tallies{}
}

// Query answers the query of that name, known being false when there is none.
// What was refused before it is in the answer.
func (l *Log) Query(ctx context.Context, name string, body []byte) (answer any, known bool, err error) {
	switch name {
	case listQuery:
		answer, err = ask(ctx, l, body, List{}, (*file).list)
	case countsQuery:
		answer, err = ask(ctx, l, body, Counts{}, (*file).counts)
	default:
		return nil, false, nil
	}
	return answer, true, err
}

func ask[P interface{ check() error }, R any](
	ctx context.Context, l *Log, body []byte, asked P, answer func(*file, context.Context, P) (R, error),
) (any, error) {
	if len(body) == 0 {
		body = []byte("{}")
	}
	if err := json.Unmarshal(body, &asked, json.RejectUnknownMembers(true)); err != nil {
		return nil, fault.Unreadable(err)
	}
	if err := asked.check(); err != nil {
		return nil, err
	}
	err := l.flush(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "refusals_unavailable",
			"the record of refused commands cannot be used now; the ledger's log says why")
	}
	result, err := answer(l.file, ctx, asked)
	if err != nil {
		return nil, err
	}
	return result, nil
}

// Texts is one text or a list of them, of which one must match.
type Texts []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *Texts) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '"' {
		*t = make(Texts, 1)
		return json.UnmarshalDecode(dec, &(*t)[0])
	}
	return json.UnmarshalDecode(dec, (*[]string)(t))
}

// List says which refusals are wanted. All of it is optional.
type List struct {
	Command     Texts     `json:"command"`
	CommandID   Texts     `json:"command_id"`
	Code        Texts     `json:"code"`
	Actor       Texts     `json:"actor"`
	Reason      Texts     `json:"reason"`
	Reference   Texts     `json:"reference"`
	Correlation Texts     `json:"correlation_id"`
	ItemID      Texts     `json:"inventory_item_id"`
	LocationID  Texts     `json:"location_id"`
	From        time.Time `json:"recorded_from"`
	Before      time.Time `json:"recorded_before"`
	Take        *int      `json:"take"`
	Cursor      string    `json:"cursor"`
	After       uint64    `json:"after"` // every query takes it; a refusal is in the answer at once
}

func (l List) check() error { return checkTake(l.Take, maxTake) }

func checkTake(take *int, most int) error {
	if take != nil && (*take < 0 || *take > most) {
		return fault.New(fault.Invalid, "invalid_value", "take must be 0 to %d, not %d", most, *take).
			With("field", "take").With("max", most)
	}
	return nil
}

// A Page is a page of refusals, newest first.
type Page struct {
	Rows []Refusal `json:"rows"`
	Next *string   `json:"next"` // the cursor of the page that follows, null after the last
}

// A condition is a WHERE clause under construction.
type condition struct {
	texts []string
	args  []any
}

func (c *condition) and(text string, arg any) {
	c.texts, c.args = append(c.texts, text), append(c.args, arg)
}

// is adds that the column has one of the texts; of none when texts is empty.
func (c *condition) is(column string, texts Texts) {
	switch {
	case texts == nil:
	case len(texts) == 1 && texts[0] != "":
		c.and(column+` = ?`, texts[0])
	default:
		if slices.Contains(texts, "") { // stored as NULL
			column = `coalesce(` + column + `, '')`
		}
		set, _ := json.Marshal(texts) // texts have a JSON form
		c.and(column+` IN (SELECT value FROM json_each(?))`, string(set))
	}
}

func (c *condition) within(from, before time.Time) {
	if !from.IsZero() {
		c.and(`recorded_at >= ?`, events.MicrosUp(from))
	}
	if !before.IsZero() {
		c.and(`recorded_at < ?`, events.MicrosUp(before))
	}
}

// query is the whole statement. All it puts together are constants.
func (c *condition) query(selected, rest string) string {
	var b strings.Builder
	b.WriteString(selected)
	for i, text := range c.texts {
		b.WriteString([]string{` WHERE `, ` AND `}[min(i, 1)])
		b.WriteString(text)
	}
	b.WriteString(rest)
	return b.String()
}

func (f *file) list(ctx context.Context, asked List) (Page, error) {
	take := defaultTake
	if asked.Take != nil {
		take = *asked.Take
	}
	var c condition
	c.is("command", asked.Command)
	c.is("command_id", asked.CommandID)
	c.is("code", asked.Code)
	c.is("actor", asked.Actor)
	c.is("reason", asked.Reason)
	c.is("reference", asked.Reference)
	c.is("correlation_id", asked.Correlation)
	c.is("inventory_item_id", asked.ItemID)
	c.is("location_id", asked.LocationID)
	c.within(asked.From, asked.Before)
	if asked.Cursor != "" {
		before, err := asked.position()
		if err != nil {
			return Page{}, err
		}
		c.and(`id < ?`, before)
	}
	c.args = append(c.args, take+1)
	page := Page{Rows: []Refusal{}}
	rows, err := f.reader.QueryContext(ctx, c.query(`SELECT id, `+columns+` FROM refusals`, ` ORDER BY id DESC LIMIT ?`), c.args...)
	if err != nil {
		return page, fmt.Errorf("list refusals: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return page, fmt.Errorf("list refusals: %w", err)
		}
		page.Rows = append(page.Rows, r)
	}
	if err := rows.Err(); err != nil {
		return page, fmt.Errorf("list refusals: %w", err)
	}
	if len(page.Rows) > take {
		page.Rows = page.Rows[:take]
		if take > 0 {
			page.Next = new(asked.cursor(page.Rows[take-1].ID))
		}
	}
	return page, nil
}

func scan(rows *sql.Rows) (r Refusal, err error) {
	var micros int64
	var commandID, details, actor, reason, reference, correlation, item, location, asked, available sql.NullString
	if err := rows.Scan(&r.ID, &micros, &r.Command, &commandID, &r.Code, &r.Type, &r.Message, &details, &actor, &reason, &reference,
		&correlation, &r.Line, &item, &location, &asked, &available, &r.Position, &r.Body); err != nil {
		return r, err
	}
	r.Recorded = time.UnixMicro(micros).UTC()
	r.CommandID, r.Actor, r.Reason, r.Reference = commandID.String, actor.String, reason.String, reference.String
	r.Correlation, r.ItemID, r.LocationID = correlation.String, item.String, location.String
	if details.Valid {
		r.Details = stdjson.RawMessage(details.String)
	}
	if r.Asked, err = quantity(asked); err != nil {
		return r, err
	}
	r.Available, err = quantity(available)
	return r, err
}

func quantity(s sql.NullString) (*events.Quantity, error) {
	if !s.Valid {
		return nil, nil
	}
	q, err := events.ParseSum(s.String) // a difference may have more digits than what is asked for
	return &q, err
}

// A place is what a cursor says: the last id of a page, of which list.
type place struct {
	ID   int64  `json:"id"`
	List string `json:"list"`
}

// cursor leads to the page after id. It belongs to the selectors, not to take.
func (l List) cursor(id uint64) string {
	text, _ := json.Marshal(place{int64(id), l.digest()}) //nolint:gosec // an id is a row of SQLite; a place has a JSON form
	return base64.RawURLEncoding.EncodeToString(text)
}

func (l List) position() (id int64, err error) {
	text, err := base64.RawURLEncoding.DecodeString(l.Cursor)
	var p place
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.List != l.digest() {
		return 0, fault.New(fault.Invalid, "invalid_cursor",
			"the cursor is of another list; use it with what the page it came with was asked for, or begin again without").With("field", "cursor")
	}
	return p.ID, nil
}

func (l List) digest() string {
	l.Take, l.Cursor, l.After = nil, "", 0
	text, _ := json.Marshal(l, json.Deterministic(true)) // a List has a JSON form
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Counts says what is counted. All of it is optional.
type Counts struct {
	Command Texts     `json:"command"`
	Code    Texts     `json:"code"`
	ItemID  Texts     `json:"inventory_item_id"` // counts only what still has its details
	From    time.Time `json:"recorded_from"`     // of whole days, but by item
	Before  time.Time `json:"recorded_before"`
	By      string    `json:"by"` // "day", the default, or "item"
	Take    *int      `json:"take"`
	After   uint64    `json:"after"`
}

func (c Counts) check() error {
	if c.By != "" && c.By != "day" && c.By != "item" {
		return fault.New(fault.Invalid, "invalid_value", "by must be day or item, not %q", c.By).With("field", "by")
	}
	return checkTake(c.Take, maxCounts)
}

// Counted is how many commands were refused for one reason.
type Counted struct {
	Day      string           `json:"day,omitzero"`               // by day
	ItemID   string           `json:"inventory_item_id,omitzero"` // by item
	Command  string           `json:"command"`
	Code     string           `json:"code"`
	Count    int64            `json:"count"`
	Detailed int64            `json:"detailed"`        // of them, those that still have their details
	Asked    *events.Quantity `json:"asked,omitempty"` // by item: what the detailed ones asked for, together
}

// Tallies are how many commands were refused, newest day or most refused item first.
type Tallies struct {
	Rows []Counted `json:"rows"`
	More bool      `json:"more"` // there are others
}

func (f *file) counts(ctx context.Context, asked Counts) (t Tallies, err error) {
	take := defaultCounts
	if asked.Take != nil {
		take = *asked.Take
	}
	if asked.By == "item" {
		t.Rows, err = f.byItem(ctx, asked)
	} else {
		t.Rows, err = f.byDay(ctx, asked, take+1)
	}
	if err != nil {
		return t, fmt.Errorf("count refusals: %w", err)
	}
	if t.More = len(t.Rows) > take; t.More {
		t.Rows = t.Rows[:take]
	}
	return t, nil
}

func (f *file) byDay(ctx context.Context, asked Counts, most int) ([]Counted, error) {
	var c condition
	c.is("command", asked.Command)
	c.is("code", asked.Code)
	c.is("inventory_item_id", asked.ItemID)
	if !asked.From.IsZero() {
		c.and(`day >= ?`, asked.From.Unix()/secondsOfDay)
	}
	if !asked.Before.IsZero() {
		c.and(`day * 86400000000 < ?`, events.MicrosUp(asked.Before))
	}
	c.args = append(c.args, most)
	text := c.query(`SELECT day, command, code, count, detailed FROM counts`, ` ORDER BY day DESC, command, code LIMIT ?`)
	if asked.ItemID != nil {
		text = c.query(`SELECT day, command, code, count(*), count(*) FROM refusals`,
			` GROUP BY day, command, code ORDER BY day DESC, command, code LIMIT ?`)
	}
	all := []Counted{}
	rows, err := f.reader.QueryContext(ctx, text, c.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var day int64
		var n Counted
		if err := rows.Scan(&day, &n.Command, &n.Code, &n.Count, &n.Detailed); err != nil {
			return nil, err
		}
		n.Day = time.Unix(day*secondsOfDay, 0).UTC().Format(time.DateOnly)
		all = append(all, n)
	}
	return all, rows.Err()
}

// byItem adds up the refusals of each item that still have their details.
func (f *file) byItem(ctx context.Context, asked Counts) ([]Counted, error) {
	var c condition
	c.is("command", asked.Command)
	c.is("code", asked.Code)
	c.is("inventory_item_id", asked.ItemID)
	c.within(asked.From, asked.Before)
	c.texts = append(c.texts, `inventory_item_id IS NOT NULL`)
	rows, err := f.reader.QueryContext(ctx, c.query(`SELECT inventory_item_id, command, code, asked FROM refusals`,
		` ORDER BY inventory_item_id, command, code`), c.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []Counted{}
	for rows.Next() {
		var one Counted
		var text sql.NullString
		if err := rows.Scan(&one.ItemID, &one.Command, &one.Code, &text); err != nil {
			return nil, err
		}
		amount, err := quantity(text)
		if err != nil {
			return nil, err
		}
		if last := len(all) - 1; last < 0 || all[last].ItemID != one.ItemID || all[last].Command != one.Command || all[last].Code != one.Code {
			all = append(all, one)
		}
		sum := &all[len(all)-1]
		sum.Count++
		sum.Detailed++
		if amount != nil {
			sum.Asked = new(amount.Plus(*cmp.Or(sum.Asked, new(events.Quantity))))
		}
	}
	slices.SortStableFunc(all, func(a, b Counted) int { return cmp.Compare(b.Count, a.Count) })
	return all, rows.Err()
}
