package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// RunReconnect checks what a store promises while its connections are lost. open
// makes an empty log, and sees to it that it is closed when its test ends. cut
// ends all connections of the store to its engine as they are; new ones may be
// made at once. It is called from any goroutine.
func RunReconnect(t *testing.T, open func(t *testing.T) (s events.Store, cut func())) {
	for _, promise := range []struct {
		name  string
		holds func(t *testing.T, s events.Store, cut func())
	}{
		{"a subscription that waits goes on", waitsOn},
		{"a subscription that reads on skips nothing and repeats nothing", readsOn},
		{"what is appended meanwhile is there once", appendsOn},
		{"what is read meanwhile is whole, or an error", readsWhole},
	} {
		t.Run(promise.name, func(t *testing.T) {
			s, cut := open(t)
			promise.holds(t, s, cut)
		})
	}
}

func waitsOn(t *testing.T, s events.Store, cut func()) {
	var a Author
	ctx, cancel := within(t)
	defer cancel()
	next, stop := iterate(s.Subscribe(ctx, 0))
	defer stop()
	for range 6 {
		require.NoError(t, persist(ctx, s, a.Commit("item-1", "item-1")))
		var got []events.Recorded
		for len(got) < 2 {
			batch, err := next()
			require.NoError(t, err, "it ends only with its context")
			got = append(got, batch...)
		}
		same(t, a.Log[len(a.Log)-2:], got)
		cut()
	}
}

func readsOn(t *testing.T, s events.Store, cut func()) {
	var a Author
	for range 20 { // more than a store remembers, and more than a batch
		mustAppend(t, s, a.Commit(slicesOf("item-1", 999)...))
	}
	n := 0
	for batch, err := range s.Subscribe(t.Context(), 0) {
		require.NoError(t, err, "after %d events", n)
		same(t, a.Log[n:n+len(batch)], batch)
		for i, e := range batch {
			require.EqualValues(t, n+i+1, e.Position)
		}
		if n/4000 != (n+len(batch))/4000 {
			cut()
		}
		if n += len(batch); n == len(a.Log) {
			break
		}
	}
}

func appendsOn(t *testing.T, s events.Store, cut func()) {
	const appenders, commits = 4, 12
	logs := make([][]events.Recorded, appenders)
	subscribed := make(chan error, 1)
	total := 0
	for i := range commits {
		total += appenders * (1 + i%3)
	}
	go func() {
		_, err := tryAll(t.Context(), s, 0, total)
		subscribed <- err
	}()
	together(appenders, func(n int) {
		var a Author
		own := fmt.Sprintf("item-%d", n)
		for i := range commits {
			if i%4 == n {
				cut()
			}
			if err := persist(t.Context(), s, a.Commit(slicesOf(own, 1+i%3)...)); err != nil {
				t.Errorf("%s: %v", own, err)
				return
			}
		}
		logs[n] = a.Log
	})
	require.NoError(t, <-subscribed)
	for n, log := range logs {
		same(t, log, read(t, s, fmt.Sprintf("item-%d", n), 0))
	}
	require.EqualValues(t, total, head(t, s))
}

func readsWhole(t *testing.T, s events.Store, cut func()) {
	var a Author
	for range 3 {
		mustAppend(t, s, a.Commit(slicesOf("item-1", 700)...))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reading sync.WaitGroup
	whole := make(chan bool)
	reading.Go(func() {
		defer close(whole)
		for ctx.Err() == nil {
			got, err := tryRead(ctx, s, "item-1", 0)
			if err == nil && len(got) != len(a.Log) {
				t.Errorf("read %d events of %d, and no error", len(got), len(a.Log))
			}
			if at, err := s.Head(ctx); err == nil && at != uint64(len(a.Log)) {
				t.Errorf("the head is %d, not %d, and no error", at, len(a.Log))
			}
			select {
			case whole <- err == nil:
			case <-ctx.Done():
			}
		}
	})
	for range 6 {
		cut()
		for ok := false; !ok; { // and it is read again
			ok = <-whole
		}
	}
	cancel()
	reading.Wait()
}
