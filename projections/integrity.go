package projections

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// Damage is what SQLite finds wrong with the file of a model, in its own words.
type Damage struct{ Model, Message string }

// damages is how many are told of one file.
const damages = 20

// Integrity has SQLite check the files: every page, and that each index has the
// rows of its table and no others, for lists are read through indexes. It returns
// nothing when all is well. It reads the whole of the files, and ctx does not
// break it off within one.
func (s *Snapshot) Integrity(ctx context.Context) ([]Damage, error) {
	var all []Damage
	for _, v := range s.views {
		err := v.query(ctx, fmt.Sprintf(`PRAGMA integrity_check(%d)`, damages), nil, func(row []driver.Value) bool {
			if message, _ := row[0].(string); message != "ok" {
				all = append(all, Damage{v.model, message})
			}
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("check the file of the read model %s: %w", v.model, err)
		}
	}
	return all, nil
}

// Models are the names of the models.
func (s *Snapshot) Models() []string {
	var all []string
	for _, v := range s.views {
		all = append(all, v.model)
	}
	return all
}
