package projections_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// heavy are selectors that take far longer than any query may: they are seconds
// of eight regular expressions.
func heavy() string {
	var all []string
	for i := range 8 {
		all = append(all, fmt.Sprintf(`{"description":{"$re":"%d([a-z]{1,150}[0-9]){2}|([a-z]{1,150}[0-9]){3}"}}`, i))
	}
	return `"$or":[` + strings.Join(all, ",") + `]`
}

// lengthy is a log of items that take long to look at, but for the first one,
// and models whose queries may take so long.
func lengthy(t *testing.T, longest time.Duration) *projections.Models {
	b := newBook()
	long := strings.Repeat("abcdefghij", 400)
	b.record(events.ItemCreated{ItemID: "first", Attributes: events.ItemAttributes{Description: new("a1b2c3")}})
	for i := range 60 {
		b.record(events.ItemCreated{ItemID: fmt.Sprint("item", i), Attributes: events.ItemAttributes{Description: &long}})
	}
	m, err := projections.Open(t.Context(), projections.Config{Dir: t.TempDir(), Store: b.store}.Within(longest))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	b.caughtUp(t, m)
	return m
}

// A list that takes too long is broken off, while it counts and while it looks.
func TestAListThatTakesTooLong(t *testing.T) {
	m := lengthy(t, 50*time.Millisecond)
	for _, body := range []string{
		`{` + heavy() + `}`,
		`{"count":false,` + heavy() + `}`,
		`{"count":false,"id":{"$ne":"first"},` + heavy() + `}`,
		`{"count":false,"order":"-sku",` + heavy() + `}`,
		`{"count":false,"order":"version",` + heavy() + `}`,
	} {
		_, err := m.Query(t.Context(), "list-inventory-items", []byte(body))
		require.Equal(t, "query_too_long", fault.Code(err), "%v", err)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	until(t, "a short one is answered", func() bool { // on a busy machine not every one is in time
		answer, err := m.Query(t.Context(), "list-inventory-items", []byte(`{"take":5}`))
		return err == nil && len(answer.(projections.Page[projections.ItemRow]).Rows) == 5
	})
}

// So is one that waits for those, whoever asks, and what reads the log.
func TestEveryQueryIsBounded(t *testing.T) {
	m, err := projections.Open(t.Context(), projections.Config{Dir: t.TempDir(), Store: audited().store}.Within(10*time.Millisecond))
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, m.WaitFor(t.Context(), 11))
	t.Run("held", func(t *testing.T) {
		m.HoldPages(t)
		for query, body := range map[string]string{"list-inventory-levels": `{}`, "explain": `{"level_id":"lev-b"}`} {
			_, err := m.Query(t.Context(), query, []byte(body))
			require.Equal(t, "query_too_long", fault.Code(err), "%s: %v", query, err)
		}
		_, err = m.ListLevels(t.Context(), projections.List{})
		require.Equal(t, "query_too_long", fault.Code(err), "%v", err)
	})
}
