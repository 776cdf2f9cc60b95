package projections

import (
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"modernc.org/sqlite"

	"github.com/stockledger/stockledger/internal/fault"
)

// Bounds of a search.
const (
	maxSearch = 1000 // bytes
	maxGrams  = 64   // that candidates are found by
)

// gram is how many characters in a row are indexed.
const gram = 3

// A search is which texts of a row are searched, and the full-text table that
// has, by position, which three characters in a row, in lower case, are in them.
// What is found there are candidates: having the same threes is not containing.
type search struct {
	columns []string
	grams   string                                       // the table, "" for none
	also    func(c compiler, token string) (either term) // where else a token may be
}

func (s search) schema() string {
	if s.grams == "" {
		return ``
	}
	// No text is kept here, nor where in it the threes are.
	return `CREATE VIRTUAL TABLE ` + s.grams + ` USING fts5
		(text, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1');`
}

// folded is what is indexed of a row: its texts in lower case, on lines of their own.
func folded(texts ...*string) string {
	var lines []string
	for _, t := range texts {
		if t != nil {
			lines = append(lines, strings.ToLower(*t))
		}
	}
	return strings.Join(lines, "\n")
}

// words compiles q: each word must be in one of the texts. A word has no line
// break, so it is in one of them if it is in all of them together.
func (c compiler) words(q string) ([]term, error) {
	if err := checkText("q", q); err != nil {
		return nil, err
	}
	tokens := strings.Fields(strings.ToLower(q))
	if len(tokens) == 0 {
		return nil, nil
	}
	s := c.table.search
	switch {
	case len(s.columns) == 0:
		return nil, fault.New(fault.Invalid, "not_searchable", "nothing in this list is searched by 'q'").With("field", "q")
	case len(q) > maxSearch:
		return nil, fault.New(fault.Invalid, "invalid_value", "q may be %d bytes long", maxSearch).With("field", "q").With("max", maxSearch)
	}
	var terms []term
	for _, token := range tokens {
		t := s.holds(token)
		if s.also != nil {
			other := s.also(c, token)
			t = term{text: `(` + t.text + ` OR ` + other.text + `)`, args: append(t.args, other.args...), routes: bothRoutes(t, other)}
		}
		terms = append(terms, t)
	}
	if r, ok := s.routeTo(tokens); ok && s.also == nil {
		for i := range terms {
			terms[i].routes = nil
		}
		terms[0].routes = []route{r} // to all words at once
	}
	return terms, nil
}

func bothRoutes(terms ...term) []route {
	if r, ok := union(terms); ok {
		return []route{r}
	}
	return nil
}

// holds is the term that the texts have the token in them.
func (s search) holds(token string) term {
	t := term{text: `(instr(fold(` + strings.Join(s.columns, `, `) + `), ?) > 0)`, args: []any{token}}
	if r, ok := s.routeTo([]string{token}); ok {
		t.routes = []route{r}
	}
	return t
}

// route leads to the rows whose column may contain all the runs.
func (s search) route(column string, runs []string) (route, bool) {
	if !slices.Contains(s.columns, column) {
		return route{}, false
	}
	return s.routeTo(runs)
}

func (s search) routeTo(runs []string) (route, bool) {
	var threes []string
	for _, run := range runs {
		threes = append(threes, gramsOf(run)...)
	}
	slices.Sort(threes)
	threes = slices.Compact(threes)
	if s.grams == "" || len(threes) == 0 {
		return route{}, false
	}
	threes = threes[:min(len(threes), maxGrams)]
	for i, g := range threes {
		threes[i] = `"` + strings.ReplaceAll(g, `"`, `""`) + `"`
	}
	l := leg{at: `rowid`, from: s.grams, where: []string{s.grams + ` MATCH ?`}, args: []any{strings.Join(threes, ` AND `)}}
	return route{legs: []leg{l}, ordered: true, costly: true}, true
}

// gramsOf are threes that together cover a text, so that there are as few lists
// of rows to intersect as possible.
func gramsOf(text string) (grams []string) {
	letters := []rune(text)
	if len(letters) < gram {
		return nil
	}
	for i := 0; i+gram < len(letters); i += gram {
		grams = append(grams, string(letters[i:i+gram]))
	}
	return append(grams, string(letters[len(letters)-gram:]))
}

// index notes the text of a row anew.
func (s search) index(w *writer, position int64, before, text string) error {
	has := func(text string) bool { return utf8.RuneCountInString(text) >= gram }
	switch {
	case before == text:
		return nil
	case has(text):
		return w.exec(`INSERT OR REPLACE INTO `+s.grams+` (rowid, text) VALUES (?, ?)`, position, text)
	case has(before):
		return w.exec(`DELETE FROM `+s.grams+` WHERE rowid = ?`, position)
	}
	return nil
}

// addFunctions adds to SQLite: fold, texts in lower case on lines of their own, and
// REGEXP.
func addFunctions(d *sqlite.Driver) {
	d.MustRegisterDeterministicScalarFunction("fold", -1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		var texts []*string
		for _, arg := range args {
			if text, ok := arg.(string); ok {
				texts = append(texts, &text)
			}
		}
		if len(texts) == 0 {
			return nil, nil
		}
		return folded(texts...), nil
	})
	var patterns compiled
	d.MustRegisterDeterministicScalarFunction("regexp", 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		text, ok := args[1].(string)
		if !ok {
			return nil, nil
		}
		re, err := patterns.get(fmt.Sprint(args[0]))
		if err != nil {
			return nil, err
		}
		return re.MatchString(text), nil
	})
}

// compiled remembers the patterns compiled of late, so that one is compiled once
// and not for each row.
type compiled struct {
	mu   sync.Mutex
	last map[string]*regexp.Regexp
}

// maxCompiled is how many patterns are remembered: several times as many as all
// readers can be matching at once.
const maxCompiled = 512

func (c *compiled) get(pattern string) (*regexp.Regexp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if re, found := c.last[pattern]; found {
		return re, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	if c.last == nil {
		c.last = make(map[string]*regexp.Regexp)
	}
	if len(c.last) == maxCompiled {
		for any := range c.last {
			delete(c.last, any)
			break
		}
	}
	c.last[pattern] = re
	return re, nil
}
