package commands_test

import (
	stdjson "encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// withoutNulls is a command in which documents that are null, and empty lists, were
// left out.
func withoutNulls(command any) any {
	made := reflect.New(reflect.TypeOf(command)).Elem()
	made.Set(reflect.ValueOf(command))
	leaveOut(made)
	return made.Interface()
}

func leaveOut(v reflect.Value) {
	if document, ok := reflect.TypeAssert[*stdjson.RawMessage](v.Addr()); ok {
		if string(*document) == "null" {
			*document = nil
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				leaveOut(field)
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			leaveOut(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			leaveOut(v.Elem())
		}
	}
}

// A command that was read and is written again, as a Go program sends it, is the
// same command: a repeat that comes by another way is found to be one.
func FuzzRewritten(f *testing.F) {
	names := commands.Names()
	for i, name := range names {
		for _, family := range families {
			for _, sc := range family {
				if name == sc.when.name {
					f.Add(i, []byte(sc.when.body))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		name := names[uint(which)%uint(len(names))]
		command, err := commands.Decode(name, body)
		if err != nil {
			refusal := fault.Public(err)
			require.Equal(t, fault.Invalid.String(), refusal.Type, "%v", err)
			require.NotEmpty(t, refusal.Code)
			require.True(t, utf8.ValidString(refusal.Message), "%q", refusal.Message)
			return
		}
		digest, err := commands.Digest(command)
		require.NoError(t, err)
		written, err := json.Marshal(command)
		require.NoError(t, err)
		again, err := commands.Decode(name, written)
		require.NoError(t, err, "%s", written)
		same, err := commands.Digest(again)
		require.NoError(t, err)
		require.Equal(t, digest, same, "%s", written)
		require.Equal(t, withoutNulls(command), withoutNulls(again), "%s", written)
	})
}
