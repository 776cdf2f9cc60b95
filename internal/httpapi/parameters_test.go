package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

func TestAURLSaysAQuery(t *testing.T) {
	for query, want := range map[string]string{
		"":                                `{}`,
		"id=mug":                          `{"id":"mug"}`,
		"id=0012&sku=null&q=true":         `{"id":"0012","sku":"null","q":"true"}`,
		"id=":                             `{"id":""}`,
		"take:=50&skip:=0":                `{"take":50,"skip":0}`,
		"sku:=null&count:=false":          `{"sku":null,"count":false}`,
		"amount:=0.10":                    `{"amount":0.10}`,
		"id=a&id=b":                       `{"id":["a","b"]}`,
		"id[]=a":                          `{"id":["a"]}`,
		"n[]:=1&n[]:=2":                   `{"n":[1,2]}`,
		"stocked_quantity[$gt]:=5":        `{"stocked_quantity":{"$gt":5}}`,
		"sku[$in][]=a&sku[$in][]=b":       `{"sku":{"$in":["a","b"]}}`,
		"q[$gte]:=1&q[$lt]:=9":            `{"q":{"$gte":1,"$lt":9}}`,
		"a[b][c]=d":                       `{"a":{"b":{"c":"d"}}}`,
		"%24or:=[{%22a%22:1}]":            `{"$or":[{"a":1}]}`,
		"q=a%3Db%26c+d":                   `{"q":"a=b&c d"}`,
		`body={"take":1,"sku":{"$ne":2}}`: `{"take":1,"sku":{"$ne":2}}`,
	} {
		got, err := httpapi.Parameters(query)
		require.NoError(t, err, query)
		require.JSONEq(t, want, string(got), query)
	}
	for query, field := range map[string]string{
		"take:=fifty":                 "take:",
		"take:=":                      "take:",
		"a[]x=1":                      "a[]x",
		"a[=1":                        "a[",
		"[a]=1":                       "[a]",
		"=1":                          "",
		"a[][b]=1":                    "a[][b]",
		"a=1&a[$gt]=2":                "a[$gt]",
		"a=1&a:=2":                    "a:",
		"a[b]=1&a[b][c]=2":            "a[b][c]",
		"a[b][c]=1&a[b]:={}":          "a[b][c]",
		"body={}&take:=1":             "body",
		"body={}&body={}":             "body",
		"id=mug&sku=caf%e9":           "sku",
		"sku:=%22caf%e9%22":           "sku:",
		"a[b][c][d][e][f][g][h][i]=1": "a[b][c][d][e][f][g][h][i]",
	} {
		_, err := httpapi.Parameters(query)
		require.Equal(t, "invalid_parameter", fault.Code(err), query)
		require.Equal(t, field, fault.Of(err).Details["field"], query)
	}
	_, err := httpapi.Parameters("a=%zz")
	require.Equal(t, "invalid_parameter", fault.Code(err))
}

// Whatever stands in a URL becomes one JSON object, or is refused.
func FuzzParameters(f *testing.F) {
	for _, query := range []string{"id=mug&take:=1", "a[$gt]:=1&a[$lt]:=2", "a[]=1&a[]=2", "body={}", "a:={\"b\":[1]}"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		body, err := httpapi.Parameters(query)
		if err != nil {
			require.Equal(t, "invalid_parameter", fault.Code(err))
			return
		}
		if !strings.Contains(query, "body") { // which is passed on as it is
			require.True(t, json.Valid(body), "%s", body)
		}
	})
}
