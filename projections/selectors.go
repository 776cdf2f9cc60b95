package projections

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Bounds of what may be asked for at once.
const (
	maxDepth   = 16     // of $and, $or, $not and nested selectors
	maxTerms   = 200    // comparisons
	maxValues  = 10_000 // of one list
	maxPattern = 256    // bytes
	maxRegexps = 8      // each is tried on every row that nothing else excludes
)

// A kind says which values a column is compared with, and how it has them.
type kind int

const (
	asText    kind = iota
	asBoolean      // 0 or 1
	asNumber       // the key of a quantity
	asWhole        // a whole number: a version, a position
	asTime         // microseconds since 1970
)

// A column can be filtered and ordered by. Its name is the one in answers and in SQL.
type column struct {
	name string
	kind kind
}

// A term is a condition in SQL, true, false or unknown of a row, and the ways
// there are to the rows it is true of.
type term struct {
	text   string
	args   []any
	routes []route
}

// A compiler turns selectors into terms. All SQL is made of constants; what the
// caller says is in the arguments.
type compiler struct {
	table       *table
	withDeleted bool
	asked       *complexity
}

// A complexity is how much has been asked for so far, over all nested compilers.
type complexity struct {
	depth, terms, regexps int
	besides               bool // something beside the table is asked for
}

// all are the terms that must all be true.
func (c compiler) all(selectors map[string]any) (terms []term, err error) {
	if c.asked.depth++; c.asked.depth > maxDepth {
		return nil, fault.New(fault.Invalid, "too_complex", "selectors may be nested %d deep", maxDepth).With("max", maxDepth)
	}
	defer func() { c.asked.depth-- }()
	for _, name := range slices.Sorted(maps.Keys(selectors)) {
		more, err := c.selector(name, selectors[name])
		if err != nil {
			return nil, err
		}
		terms = append(terms, more...)
	}
	return terms, nil
}

func (c compiler) selector(name string, value any) ([]term, error) {
	switch name {
	case "$and", "$or":
		return c.combined(name, value)
	case "$not":
		selectors, ok := value.(map[string]any)
		if !ok {
			return nil, wrongType(name, "selectors")
		}
		terms, err := c.all(selectors)
		if err != nil {
			return nil, err
		}
		t := joinedTerm(terms, ` AND `, `TRUE`)
		return []term{{text: `NOT ` + t.text, args: t.args}}, nil
	}
	if nested, found := c.table.nested[name]; found {
		t, err := nested(c, value)
		return []term{t}, err
	}
	col, known := c.table.column(name)
	if !known {
		return nil, unknownField(name)
	}
	t, err := c.column(col, value)
	return []term{t}, err
}

// combined compiles the branches of $and or $or.
func (c compiler) combined(name string, value any) ([]term, error) {
	branches, ok := value.([]any)
	if !ok {
		return nil, wrongType(name, "list of selectors")
	}
	var together []term
	for _, branch := range branches {
		selectors, ok := branch.(map[string]any)
		if !ok {
			return nil, wrongType(name, "list of selectors")
		}
		terms, err := c.all(selectors)
		if err != nil {
			return nil, err
		}
		if name == "$and" {
			together = append(together, terms...)
		} else {
			t := joinedTerm(terms, ` AND `, `TRUE`)
			for _, one := range terms {
				t.routes = append(t.routes, one.routes...) // each leads to all rows that fulfil all
			}
			together = append(together, t)
		}
	}
	if name == "$and" {
		return together, nil
	}
	either := joinedTerm(together, ` OR `, `FALSE`)
	if r, ok := union(together); ok {
		either.routes = []route{r}
	}
	return []term{either}, nil
}

// joinedTerm is one term of several.
func joinedTerm(terms []term, with, none string) term {
	if len(terms) == 0 {
		return term{text: none}
	}
	texts := make([]string, len(terms))
	var args []any
	for i, t := range terms {
		texts[i] = t.text
		args = append(args, t.args...)
	}
	return term{text: `(` + strings.Join(texts, with) + `)`, args: args}
}

// column compiles what is asked of a column.
func (c compiler) column(col column, value any) (term, error) {
	asked, err := c.compare(col, value)
	if err != nil {
		return term{}, err
	}
	t := term{text: asked.text, args: asked.args}
	c.asked.besides = c.asked.besides || c.table.isBeside(col.name)
	for _, ix := range c.table.indexes {
		if ix.column != col.name || ix.live && c.withDeleted {
			continue
		}
		if r, ok := ix.route(asked, c.withDeleted); ok {
			t.routes = append(t.routes, r)
			break
		}
	}
	if len(t.routes) == 0 {
		if r, ok := c.table.search.route(col.name, asked.runs); ok {
			t.routes = append(t.routes, r)
		}
	}
	return t, nil
}

// A comparison is a condition on one column, the extent of what fulfils it, and
// texts that all of that contains, in lower case.
type comparison struct {
	text   string
	args   []any
	extent extent
	runs   []string
}

// compare compiles a value, a list of values, or operators.
func (c compiler) compare(col column, value any) (comparison, error) {
	operators, ok := value.(map[string]any)
	if !ok {
		return c.operate(col, "$eq", value)
	}
	together := comparison{extent: everything()}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(operators)) {
		one, err := c.operate(col, name, operators[name])
		if err != nil {
			return comparison{}, err
		}
		texts = append(texts, one.text)
		together.args = append(together.args, one.args...)
		together.extent = together.extent.and(one.extent)
		together.runs = append(together.runs, one.runs...)
	}
	together.text = `TRUE`
	if len(texts) > 0 {
		together.text = `(` + strings.Join(texts, ` AND `) + `)`
	}
	return together, nil
}

// operate compiles one operator.
func (c compiler) operate(col column, operator string, value any) (comparison, error) {
	if c.asked.terms++; c.asked.terms > maxTerms {
		return comparison{}, fault.New(fault.Invalid, "too_complex", "there may be %d conditions at most", maxTerms).With("max", maxTerms)
	}
	values, isList := each(value)
	switch operator {
	case "$eq":
		if isList {
			return col.oneOf(values)
		}
		return col.equals(value)
	case "$in", "$nin":
		if !isList {
			return comparison{}, wrongType(col.name, "list")
		}
		one, err := col.oneOf(values)
		if operator == "$nin" {
			one = one.negated()
		}
		return one, err
	case "$ne":
		one, err := col.equals(value)
		return one.negated(), err
	case "$not":
		one, err := c.compare(col, value)
		return one.negated(), err
	case "$exists":
		there, ok := value.(bool)
		if !ok {
			return comparison{}, wrongType(col.name, "boolean")
		}
		if there {
			return col.isNull().negated(), nil
		}
		return col.isNull(), nil
	case "$gt", "$gte", "$lt", "$lte", "gt", "gte", "lt", "lte":
		if col.kind != asBoolean {
			return col.compares(strings.TrimPrefix(operator, "$"), value)
		}
	case "$like", "$ilike", "$re", "$contains", "contains", "starts_with", "ends_with":
		if col.kind == asText {
			return c.matches(col, operator, value)
		}
	}
	return comparison{}, fault.New(fault.Invalid, "invalid_operator", "Field '%s' cannot be asked with operator '%s'", col.name, operator).
		With("field", col.name).With("operator", operator)
}

func (one comparison) negated() comparison {
	return comparison{text: `NOT ` + one.text, args: one.args, extent: one.extent.complement()}
}

func (col column) isNull() comparison {
	return comparison{text: `(` + col.name + ` IS NULL)`, extent: extent{null: yes, exact: true}}
}

// equals asks for a value, or for null.
func (col column) equals(value any) (comparison, error) {
	if value == nil {
		return col.isNull(), nil
	}
	v, err := col.stored(value)
	if err != nil {
		return comparison{}, err
	}
	one := comparison{text: `(` + col.name + ` = ?)`, args: []any{v}, extent: extentOf(point(v))}
	if text, ok := v.(string); ok {
		one.runs = []string{strings.ToLower(text)}
	}
	return one, nil
}

// oneOf asks for any of the values. Of none of them, it is false of null, too.
func (col column) oneOf(values []any) (comparison, error) {
	if len(values) > maxValues {
		return comparison{}, fault.New(fault.Invalid, "too_complex", "Field '%s': a list may hold %d values", col.name, maxValues).
			With("field", col.name).With("max", maxValues)
	}
	stored := make([]any, len(values))
	points := make([]span, len(values))
	for i, value := range values {
		v, err := col.stored(value)
		if err != nil {
			return comparison{}, err
		}
		stored[i], points[i] = v, point(v)
	}
	set, err := json.Marshal(stored)
	if err != nil {
		return comparison{}, err
	}
	e := extentOf(points...)
	if len(values) == 0 {
		e.null = no
	}
	return comparison{text: `(` + col.name + ` IN (SELECT value FROM json_each(?)))`, args: []any{string(set)}, extent: e}, nil
}

// compares asks for what is greater or less.
func (col column) compares(operator string, value any) (comparison, error) {
	v, err := col.bound(operator, value)
	if err != nil {
		return comparison{}, err
	}
	var sign string
	var s span
	switch operator {
	case "gt":
		sign, s = ` > ?)`, span{from: v, fromOpen: true}
	case "gte":
		sign, s = ` >= ?)`, span{from: v}
	case "lt":
		sign, s = ` < ?)`, span{to: v, toOpen: true}
	default:
		sign, s = ` <= ?)`, span{to: v}
	}
	return comparison{text: `(` + col.name + sign, args: []any{v}, extent: extentOf(s)}, nil
}

// matches asks for a pattern. In $like and $ilike % is any text and _ any
// character, and \ takes their meaning from them; $re is a regular expression
// as Go has them; in the others nothing has a meaning. Only $like and $re heed
// case.
func (c compiler) matches(col column, operator string, value any) (comparison, error) {
	pattern, ok := value.(string)
	if !ok {
		return comparison{}, wrongType(col.name, "string")
	}
	if err := checkText(col.name, pattern); err != nil {
		return comparison{}, err
	}
	if len(pattern) > maxPattern {
		return comparison{}, col.badPattern(operator, "is longer than 256 bytes")
	}
	folded := `(fold(` + col.name + `) GLOB ?)`
	switch operator {
	case "$re":
		if c.asked.regexps++; c.asked.regexps > maxRegexps {
			return comparison{}, fault.New(fault.Invalid, "too_complex", "there may be %d '$re' at most; $like and $contains are not limited so", maxRegexps).
				With("field", col.name).With("operator", operator).With("max", maxRegexps)
		}
		if _, err := regexp.Compile(pattern); err != nil {
			return comparison{}, col.badPattern(operator, "cannot be read: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		return comparison{text: `(` + col.name + ` REGEXP ?)`, args: []any{pattern}, extent: extent{spans: all, null: unknown}}, nil
	case "$like":
		like, err := readLike(pattern)
		if err != nil {
			return comparison{}, col.badPattern(operator, err.Error())
		}
		return comparison{
			text: `(` + col.name + ` GLOB ?)`, args: []any{like.glob},
			extent: like.extent(), runs: lowered(like.runs),
		}, nil
	case "$ilike":
		like, err := readLike(strings.ToLower(pattern))
		if err != nil {
			return comparison{}, col.badPattern(operator, err.Error())
		}
		return comparison{text: folded, args: []any{like.glob}, extent: extent{spans: all, null: unknown}, runs: like.runs}, nil
	}
	pattern = strings.ToLower(pattern)
	glob := globbed(pattern)
	if operator != "starts_with" {
		glob = `*` + glob
	}
	if operator != "ends_with" {
		glob += `*`
	}
	return comparison{text: folded, args: []any{glob}, extent: extent{spans: all, null: unknown}, runs: []string{pattern}}, nil
}

func (col column) badPattern(operator, why string) error {
	return fault.New(fault.Invalid, "invalid_pattern", "Field '%s': the pattern of '%s' %s", col.name, operator, why).
		With("field", col.name).With("operator", operator)
}

// A likePattern is a pattern of LIKE, read.
type likePattern struct {
	glob string   // the same for GLOB, which heeds case
	runs []string // what stands between % and _
	head string   // the first of them, if the pattern begins with it
	tail bool     // nothing but one % follows head
	wild bool     // there is a % or _
}

func readLike(pattern string) (like likePattern, err error) {
	var glob, run strings.Builder
	end := func() {
		if run.Len() > 0 {
			like.runs = append(like.runs, run.String())
		}
		if !like.wild {
			like.head = run.String()
		}
		run.Reset()
	}
	escaped := false
	for i, r := range pattern {
		switch {
		case escaped || r != '%' && r != '_' && r != '\\':
			run.WriteRune(r)
			glob.WriteString(globbed(string(r)))
			escaped = false
		case r == '\\':
			escaped = true
		default:
			end()
			like.tail = !like.wild && r == '%' && i == len(pattern)-1
			like.wild = true
			glob.WriteByte(map[rune]byte{'%': '*', '_': '?'}[r])
		}
	}
	if escaped {
		return like, errors.New("must not end with a \\")
	}
	end()
	like.glob = glob.String()
	return like, nil
}

// extent is where a value must be to match.
func (like likePattern) extent() extent {
	switch {
	case !like.wild:
		return extentOf(point(like.head))
	case like.head == "":
		return extent{spans: all, null: unknown}
	}
	last := len(like.head) - 1
	e := extentOf(span{from: like.head, to: like.head[:last] + string([]byte{like.head[last] + 1}), toOpen: true})
	e.exact = like.tail
	return e
}

// globbed is text as GLOB wants it to find it as it is.
func globbed(text string) string { return literalGlob.Replace(text) }

var literalGlob = strings.NewReplacer(`*`, `[*]`, `?`, `[?]`, `[`, `[[]`)

func lowered(texts []string) []string {
	low := make([]string, len(texts))
	for i, text := range texts {
		low[i] = strings.ToLower(text)
	}
	return low
}

func each(value any) ([]any, bool) {
	switch values := value.(type) {
	case []any:
		return values, true
	case []string:
		all := make([]any, len(values))
		for i, v := range values {
			all[i] = v
		}
		return all, true
	}
	return nil, false
}

// stored is a value as the column has it.
func (col column) stored(value any) (any, error) {
	switch col.kind {
	case asText:
		if s, ok := value.(string); ok {
			return s, checkText(col.name, s)
		}
		return nil, wrongType(col.name, "string")
	case asBoolean:
		switch value {
		case true:
			return int64(1), nil
		case false:
			return int64(0), nil
		}
		return nil, wrongType(col.name, "boolean")
	case asNumber, asWhole:
		q, ok := value.(events.Quantity)
		if s, isText := value.(string); isText {
			var err error
			q, err = events.ParseQuantity(s)
			ok = err == nil
		}
		if !ok {
			return nil, wrongType(col.name, "number")
		}
		if col.kind == asNumber {
			return quantityKey(q), nil
		}
		n, err := strconv.ParseInt(q.String(), 10, 64)
		if err != nil {
			return nil, wrongType(col.name, "whole number")
		}
		return n, nil
	case asTime:
		at, err := col.instant(value)
		if err == nil && !at.Equal(time.UnixMicro(at.UnixMicro())) {
			return noMicros, nil
		}
		return at.UnixMicro(), err
	default:
		panic("projections: column " + col.name + " is of no kind")
	}
}

// noMicros stands for an instant between two microseconds. No row has it.
const noMicros = int64(math.MinInt64)

// bound is a value that others are greater or less than, as the column has them.
func (col column) bound(operator string, value any) (any, error) {
	if col.kind != asTime {
		return col.stored(value)
	}
	at, err := col.instant(value)
	if operator == "gte" || operator == "lt" {
		return events.MicrosUp(at), err
	}
	return at.UnixMicro(), err
}

func (col column) instant(value any) (time.Time, error) {
	switch at := value.(type) {
	case time.Time:
		return at, nil
	case string:
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			if t, err := time.Parse(layout, at); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, wrongType(col.name, "time")
}

// checkText refuses what SQLite would end early.
func checkText(field, text string) error {
	switch {
	case strings.ContainsRune(text, 0):
		return fault.New(fault.Invalid, "invalid_text", "Field '%s' must not contain NUL", field).With("field", field)
	case !utf8.ValidString(text):
		return fault.New(fault.Invalid, "invalid_text", "Field '%s' is not valid UTF-8 text", field).With("field", field)
	}
	return nil
}

func wrongType(field, want string) error {
	return fault.New(fault.Invalid, "invalid_type", "Expected type: '%s' for field '%s'", want, field).With("field", field)
}

func unknownField(name string) error {
	return fault.New(fault.Invalid, "unknown_field", "Unrecognized fields: '%s'", name).With("field", name)
}
