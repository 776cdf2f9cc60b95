package medusaapi

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/projections"
)

// IdleExports never begins to write.
func IdleExports(t *testing.T) *Exports {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	return &Exports{root: root, jobs: make(chan exportJob, waitingExports), failed: make(map[string]bool)}
}

// Waiting is how many exports wait to be written.
func (e *Exports) Waiting() int { return len(e.jobs) }

// The bounds, for tests.
const (
	KeptExports    = keptExports
	WaitingExports = waitingExports
	ExportPage     = exportPage
)

// Start begins an export of all items.
func (e *Exports) Start() (string, error) { return e.start(projections.List{}) }

// The bodies that the OpenAPI document describes, and the shapes that are checked.
var Bodies = map[string]struct {
	Body  any
	Shape shape
}{
	"attributes":      {attributesBody{}, updateItemShape},
	"item":            {itemBody{}, createItemShape},
	"new level":       {newLevelBody{}, newLevelShape},
	"level":           {levelBody{}, updateLevelShape},
	"levels":          {itemLevelsBody{}, itemLevelsShape},
	"level update":    {levelUpdateBody{}, batchUpdateShape},
	"any levels":      {anyLevelsBody{}, anyLevelsShape},
	"any level":       {anyLevelBody{}, anyLevelShape},
	"new reservation": {newReservationBody{}, newReservationShape},
	"reservation":     {reservationBody{}, reservationShape},
	"new location":    {newLocationBody{}, newLocationShape},
	"location":        {locationBody{}, anyLocationShape},
	"address":         {addressBody{}, addressShape},
	"links":           {linksBody{}, linksShape},
	"set":             {setBody{}, setShape},
	"new link":        {newLinkBody{}, newLinkShape},
	"link":            {linkBody{}, linkShape},
	"variant link":    {variantLinkBody{}, variantLinkShape},
	"link name":       {linkNameBody{}, linkNameShape},
	"variant links":   {variantLinksBody{}, variantsShape},
}

// Names are the fields of a shape, and whether they are needed.
func (s shape) Names() map[string]bool {
	all := make(map[string]bool)
	for _, f := range s.fields {
		all[f.name] = f.required
	}
	return all
}

// Entities are what answers are chosen from, with the type that answers are made of.
var Entities = map[string]struct {
	Row      any
	Names    []string // of its plain fields and its relations
	Defaults []string
}{
	"item":        {Item{}, itemEntity.names(), itemFields},
	"level":       {Level{}, levelEntity.names(), levelFields},
	"reservation": {Reservation{}, reservationEntity.names(), reservationFields},
	"location":    {Location{}, locationEntity.names(), nil},
	"address":     {Address{}, addressEntity.names(), nil},
	"variant":     {Variant{}, variantEntity.names(), nil},
	"link":        {Link{}, linkEntity.names(), nil},
}

func (e *entity) names() []string {
	all := append([]string{}, e.plain...)
	for name := range e.relations {
		all = append(all, name)
	}
	return all
}

// ParseQuery reads a query string into lists, objects and texts.
func ParseQuery(text string) (any, error) {
	query, err := parseQuery(text)
	return plain(query), err
}

func plain(v given) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i, one := range v {
			all[i] = plain(one)
		}
		return all
	case *nested:
		all := make(map[string]any)
		for name, one := range v.of {
			all[name] = plain(one)
		}
		return all
	}
	return v
}
