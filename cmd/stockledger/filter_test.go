package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiltersAsTheLedgerIsAsked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"sku=ABC"}, `{"sku":"ABC"}`},
		{[]string{"sku=71053"}, `{"sku":"71053"}`},
		{[]string{"sku=a=b"}, `{"sku":"a=b"}`},
		{[]string{"sku="}, `{"sku":""}`},
		{[]string{"sku=a,b"}, `{"sku":["a","b"]}`},
		{[]string{"sku=a", "sku=b,c"}, `{"sku":["a","b","c"]}`},
		{[]string{"sku=null"}, `{"sku":null}`},
		{[]string{"sku!=null"}, `{"sku":{"$ne":null}}`},
		{[]string{"sku!=a"}, `{"sku":{"$ne":"a"}}`},
		{[]string{"sku!=a,b"}, `{"sku":{"$nin":["a","b"]}}`},
		{[]string{"title~50%_a"}, `{"title":{"$ilike":"%50\\%\\_a%"}}`},
		{[]string{"available_quantity<5"}, `{"available_quantity":{"$lt":5}}`},
		{[]string{"available_quantity>=0.5", "available_quantity<=1e2"}, `{"available_quantity":{"$gte":0.5,"$lte":100}}`},
		{[]string{"available_quantity>-3"}, `{"available_quantity":{"$gt":-3}}`},
		{[]string{"stocked_quantity=1,2"}, `{"stocked_quantity":[1,2]}`},
		{[]string{"requires_shipping=false"}, `{"requires_shipping":false}`},
		{[]string{"created_at>=2010-12-03T12:00Z"}, `{"created_at":{"$gte":"2010-12-03T12:00:00Z"}}`},
		{[]string{"location_levels.location_id=paris"}, `{"location_levels":{"location_id":"paris"}}`},
		{
			[]string{"location_levels.location_id=paris", "location_levels.stocked_quantity>9"},
			`{"location_levels":{"location_id":"paris","stocked_quantity":{"$gt":9}}}`,
		},
		{[]string{`sku:={"$or":["a"]}`}, `{"sku":{"$or":["a"]}}`},
		{[]string{"sku:=7"}, `{"sku":7}`},
	} {
		var f filters
		for _, argument := range c.arguments {
			require.True(t, isFilter(argument), argument)
			require.NoError(t, f.add(argument, false))
		}
		params := object{}
		require.NoError(t, f.into(params))
		got, err := json.Marshal(params)
		require.NoError(t, err)
		require.JSONEq(t, c.want, string(got), "%v", c.arguments)
	}
}

func TestAFilterThatIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	var f filters
	require.NoError(t, f.add("title=null, and void", true))
	params := object{}
	require.NoError(t, f.into(params))
	require.Equal(t, object{"title": "null, and void"}, params)
}

func TestFiltersThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"colour"}, "colour: write it NAME=VALUE"},
		{[]string{"=red"}, "=red: write it NAME=VALUE"},
		{[]string{"available_quantity<few"}, "available_quantity<few: available_quantity is a number"},
		{[]string{"available_quantity<5", "available_quantity<6"}, "available_quantity<6: the field has that condition twice"},
		{[]string{"created_at>soon"}, `created_at>soon: "soon" is not a time`},
		{[]string{"requires_shipping=yes"}, "requires_shipping=yes: requires_shipping is true or false"},
		{[]string{"sku:=x"}, "sku:=x: x is not JSON"},
		{[]string{`sku:="A"`, "sku=B"}, "sku=B: the field has another condition"},
		{[]string{"sku!=B", `sku:="A"`}, `sku:="A": the field has another condition`},
		{[]string{"quantity<3", "quantity:=2"}, "quantity:=2: the field has another condition"},
		{[]string{"sku:=null", "sku:=null"}, "sku:=null: the field has that condition twice"},
		{[]string{"order=sku"}, "order=sku: there is a flag for that, --order"},
		{[]string{"location_levels:=null", "location_levels.id=x"}, "location_levels and location_levels.id: give one of the two"},
		{[]string{"location_levels.id=x", "location_levels:=null"}, "location_levels is given twice"},
	} {
		var f filters
		var err error
		for _, argument := range c.arguments {
			if err == nil {
				err = f.add(argument, false)
			}
		}
		if err == nil {
			err = f.into(object{})
		}
		require.ErrorContains(t, err, c.want, "%v", c.arguments)
	}
}
