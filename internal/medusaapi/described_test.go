package medusaapi_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/medusaapi"
)

// members are the JSON members of a struct, and whether they may be left out.
func members(of reflect.Type) (names []string, optional map[string]bool) {
	optional = make(map[string]bool)
	for field := range of.Fields() {
		if field.Anonymous {
			inner, innerOptional := members(field.Type)
			for _, name := range inner {
				names, optional[name] = append(names, name), innerOptional[name]
			}
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		names, optional[name] = append(names, name), strings.Contains(options, "omit")
	}
	return names, optional
}

func TestBodiesAreDescribedAsTheyAreChecked(t *testing.T) {
	for name, b := range medusaapi.Bodies {
		_, optional := members(reflect.TypeOf(b.Body))
		described := make(map[string]bool)
		for member, may := range optional {
			described[member] = !may
		}
		require.Equal(t, b.Shape.Names(), described, name)
	}
}

func TestWhatCanBeChosenIsWhatAnswersHave(t *testing.T) {
	for name, e := range medusaapi.Entities {
		names, _ := members(reflect.TypeOf(e.Row))
		require.ElementsMatch(t, names, e.Names, name)
		require.Subset(t, e.Names, e.Defaults, name)
	}
}

// TestEveryRouteIsInTheDocument and the other way round.
func TestEveryRouteIsInTheDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/medusa.md")
	require.NoError(t, err)
	var told, served []string
	for _, found := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]+)`").FindAllStringSubmatch(string(page), -1) {
		told = append(told, found[1])
	}
	for _, r := range open(t).routes {
		served = append(served, r.Method+" "+r.Path)
	}
	slices.Sort(told)
	slices.Sort(served)
	require.Equal(t, served, told)
}

func TestRoutesSayWhatTheyAre(t *testing.T) {
	names := make(map[string]bool)
	for _, r := range open(t).routes {
		at := r.Method + " " + r.Path
		require.False(t, names[r.Name], "two routes are named %s", r.Name)
		names[r.Name] = true
		require.NotEmpty(t, r.About, at)
		require.NotNil(t, r.Handler, at)
		want := httpapi.Command
		if r.Method == "GET" || strings.HasSuffix(r.Path, "/export") {
			want = httpapi.Query
		}
		require.Equal(t, want, r.Scope, at)
		require.True(t, r.Answer != nil || strings.HasPrefix(r.Path, "/ledger/"), at)
	}
}
