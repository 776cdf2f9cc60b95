package medusaapi

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/projections"
)

const (
	// maxPage is how many rows the read models give at once.
	maxPage = 1000
	// maxLimit is how many rows one answer may have. Medusa has no bound; its
	// dashboard asks for 9999 where it means all.
	maxLimit = 10_000
)

// keyed is an answer that is one object under a name.
type keyed map[string]jsontext.Value

// A pageAnswer is the answer of a list.
type pageAnswer struct {
	name string
	rows []jsontext.Value
	paging
}

type paging struct {
	count         uint64
	offset, limit int
}

// MarshalJSONTo implements json.MarshalerTo: the rows under their name, and then
// the numbers.
func (p pageAnswer) MarshalJSONTo(enc *jsontext.Encoder) error {
	write := func(tokens ...jsontext.Token) error {
		for _, token := range tokens {
			if err := enc.WriteToken(token); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(jsontext.BeginObject, jsontext.String(p.name), jsontext.BeginArray); err != nil {
		return err
	}
	for _, row := range p.rows {
		if err := enc.WriteValue(row); err != nil {
			return err
		}
	}
	return write(jsontext.EndArray,
		jsontext.String("count"), jsontext.Uint(p.count),
		jsontext.String("offset"), jsontext.Int(int64(p.offset)),
		jsontext.String("limit"), jsontext.Int(int64(p.limit)),
		jsontext.EndObject)
}

// A listedRows is the rows of a list, and where they are in it.
type listedRows[R any] struct {
	rows []R
	paging
}

// list reads the rows of a list, in as many pages as they take.
func list[R any](c *call, to asked, read func(context.Context, projections.List) (projections.Page[R], error)) (listedRows[R], error) {
	all := listedRows[R]{paging: paging{offset: to.Skip, limit: to.limit}}
	asked := to.List
	for {
		asked.Take = new(min(to.limit-len(all.rows), maxPage))
		page, err := read(c.ctx(), asked)
		if err != nil {
			return all, err
		}
		if page.Count != nil {
			all.count = *page.Count
		}
		all.rows = append(all.rows, page.Rows...)
		if page.Next == nil || len(all.rows) >= to.limit || len(page.Rows) == 0 {
			return all, nil
		}
		asked.Cursor, asked.Skip, asked.NoCount = *page.Next, 0, true
	}
}

// answerPage is the answer of a list: what was chosen of what with makes of the rows.
func answerPage[R, S any](name string, s *selection, page listedRows[R], with func(R) S) (any, error) {
	picked, err := each(s, mapped(page.rows, with))
	return pageAnswer{name, picked, page.paging}, err
}
