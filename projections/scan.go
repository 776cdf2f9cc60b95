package projections

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/events"
)

// How values are stored: times as microseconds since 1970, JSON as text, and
// what is absent as NULL. Quantities are stored as keys where rows are found by
// them (decimal.go), and in plain notation where they are only read.

// An amount scans the key of a quantity.
type amount struct{ *events.Quantity }

// Scan implements sql.Scanner.
func (a amount) Scan(stored any) error {
	text, ok := stored.(string)
	if !ok {
		return fmt.Errorf("a quantity is stored as %T", stored)
	}
	var err error
	*a.Quantity, err = parseKey(text)
	return err
}

// A quantity scans a quantity in plain notation.
type quantity struct{ *events.Quantity }

// Scan implements sql.Scanner.
func (q quantity) Scan(stored any) error {
	text, ok := stored.(string)
	if !ok {
		return fmt.Errorf("a quantity is stored as %T", stored)
	}
	var err error
	*q.Quantity, err = events.ParseSum(text)
	return err
}

// An optional scans what may be NULL.
type optional[T any] struct {
	into **T
	scan func(*T) scan
}

type scan interface{ Scan(stored any) error }

// Scan implements sql.Scanner.
func (o optional[T]) Scan(stored any) error {
	if *o.into = nil; stored == nil {
		return nil
	}
	*o.into = new(T)
	return o.scan(*o.into).Scan(stored)
}

// A moment scans a stored time.
type moment struct{ *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(stored any) error {
	micros, ok := stored.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T", stored)
	}
	*m.Time = time.UnixMicro(micros).UTC()
	return nil
}

func optionalQuantity(q **events.Quantity) any {
	return optional[events.Quantity]{q, func(q *events.Quantity) scan { return quantity{q} }}
}

func optionalAmount(q **events.Quantity) any {
	return optional[events.Quantity]{q, func(q *events.Quantity) scan { return amount{q} }}
}

func optionalMoment(t **time.Time) any {
	return optional[time.Time]{t, func(t *time.Time) scan { return moment{t} }}
}

// A blank scans text that is "" when it is NULL.
type blank struct{ *string }

// Scan implements sql.Scanner.
func (b blank) Scan(stored any) error {
	*b.string, _ = stored.(string)
	return nil
}

// document scans JSON.
func document(raw *json.RawMessage) any { return (*[]byte)(raw) }

// What the writer takes for each of them.

func storeAmount(q *events.Quantity) driver.Value {
	if q == nil {
		return nil
	}
	return quantityKey(*q)
}

func storeText(s *string) driver.Value {
	if s == nil {
		return nil
	}
	return *s
}

func storeBlank(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

func storeDocument(raw json.RawMessage) driver.Value {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return string(raw)
}

func storeMoment(t time.Time) driver.Value { return t.UnixMicro() }

func storeOptionalMoment(t *time.Time) driver.Value {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}
