package domain

import "slices"

// A table is a map that can be put back as it was, at the cost of what changed.
// It is what lets a refused command leave no trace after some of its lines have
// been taken in.
type table[V any] struct {
	rows    map[string]V
	journal []before[V] // what set and remove overwrote since begin, oldest first
	open    bool
}

type before[V any] struct {
	key    string
	row    V
	exists bool
}

func (t *table[V]) get(key string) (V, bool) {
	row, found := t.rows[key]
	return row, found
}

func (t *table[V]) set(key string, row V) {
	t.remember(key)
	if t.rows == nil {
		t.rows = make(map[string]V)
	}
	t.rows[key] = row
}

func (t *table[V]) remove(key string) {
	t.remember(key)
	delete(t.rows, key)
}

func (t *table[V]) remember(key string) {
	if t.open {
		row, exists := t.rows[key]
		t.journal = append(t.journal, before[V]{key, row, exists})
	}
}

func (t *table[V]) begin() { t.open = true }

// keep lets go of the journal, which would take as much memory as the rows.
func (t *table[V]) keep() { t.open, t.journal = false, nil }

func (t *table[V]) rollback() {
	t.open = false
	for _, b := range slices.Backward(t.journal) {
		if b.exists {
			t.rows[b.key] = b.row
		} else {
			delete(t.rows, b.key)
		}
	}
	t.keep()
}
