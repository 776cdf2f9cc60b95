package esdbdouble_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/esdbdouble"
)

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 256} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			c := connect(b, esdbdouble.Start(b).URL())
			var turn atomic.Int64
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				stream := fmt.Sprint("s", turn.Add(1))
				expected := esdb.ExpectedRevision(esdb.NoStream{})
				for pb.Next() {
					result, err := c.AppendToStream(b.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected},
						esdb.EventData{EventID: uuid.New(), EventType: "e", Data: make([]byte, 200)})
					if err != nil {
						b.Error(err)
						return
					}
					expected = esdb.Revision(result.NextExpectedVersion)
				}
			})
		})
	}
}

func BenchmarkRead(b *testing.B) {
	s := esdbdouble.Start(b)
	for range b.N/1000 + 1 {
		s.Write("a", make([]esdbdouble.Event, 1000)...)
	}
	c := connect(b, s.URL())
	b.ResetTimer()
	read, err := c.ReadStream(b.Context(), "a", esdb.ReadStreamOptions{From: esdb.Start{}}, math.MaxUint64)
	require.NoError(b, err)
	defer read.Close()
	for {
		if _, err := read.Recv(); err != nil {
			require.True(b, errors.Is(err, io.EOF))
			return
		}
	}
}
