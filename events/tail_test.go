package events_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// positions makes n events that follow a position, with bodies of so many bytes.
func positions(after uint64, n, size int) (records []events.Recorded) {
	for i := range n {
		records = append(records, events.Recorded{Position: after + 1 + uint64(i), Data: make([]byte, size)})
	}
	return records
}

// unread is the reader of a tail that should not need one.
func unread(_ context.Context, after, _ uint64) ([]events.Recorded, error) {
	return nil, errors.New("read from the store")
}

func firstBatch(t *testing.T, tail *events.Tail, after uint64,
	read func(context.Context, uint64, uint64) ([]events.Recorded, error),
) ([]events.Recorded, error) {
	t.Helper()
	for batch, err := range tail.Subscribe(t.Context(), after, read) {
		return batch, err
	}
	t.Fatal("the subscription ended without an error")
	return nil, nil
}

func TestTailSharesWhatItHolds(t *testing.T) {
	tail := events.NewTail(7)
	records := positions(7, 3, 10)
	tail.Add(records...)
	require.EqualValues(t, 10, tail.Head())
	batch, err := firstBatch(t, tail, 8, unread)
	require.NoError(t, err)
	require.Len(t, batch, 2)
	require.Same(t, &records[1].Data[0], &batch[0].Data[0])
}

func TestTailBatchesAreBoundedAndStayAsTheyWere(t *testing.T) {
	tail := events.NewTail(0)
	tail.Add(positions(0, 2*events.MaxBatch, 1)...)
	batch, err := firstBatch(t, tail, 0, unread)
	require.NoError(t, err)
	require.Len(t, batch, events.MaxBatch)
	require.Equal(t, cap(batch), len(batch), "appending to a batch would write into the tail")
	for tail.Head() < 200_000 {
		tail.Add(positions(tail.Head(), 997, 1)...)
	}
	for i, e := range batch {
		require.EqualValues(t, i+1, e.Position)
	}
}

func TestTailForgetsAndAsksTheStore(t *testing.T) {
	for name, size := range map[string]int{"many events": 1, "large events": 10_000} {
		t.Run(name, func(t *testing.T) {
			tail := events.NewTail(0)
			for tail.Head() < 40_000 {
				tail.Add(positions(tail.Head(), 1000, size)...)
			}
			asked := 0
			for batch, err := range tail.Subscribe(t.Context(), 0, func(_ context.Context, after, through uint64) ([]events.Recorded, error) {
				asked++
				require.LessOrEqual(t, through, after+events.MaxBatch)
				return positions(after, int(min(through-after, 700)), size), nil
			}) {
				require.NoError(t, err)
				if batch[len(batch)-1].Position == tail.Head() {
					break
				}
			}
			require.Greater(t, asked, 30)
			_, err := firstBatch(t, tail, 39_000, unread)
			require.NoError(t, err)
		})
	}
}

func TestTailNoticesAStoreWithHoles(t *testing.T) {
	tail := events.NewTail(10)
	for name, batch := range map[string][]events.Recorded{
		"nothing": nil, "a gap": positions(5, 2, 1), "a repeat": positions(3, 2, 1),
	} {
		_, err := firstBatch(t, tail, 4, func(context.Context, uint64, uint64) ([]events.Recorded, error) { return batch, nil })
		require.ErrorContains(t, err, "5", name)
	}
	_, err := firstBatch(t, tail, 4, unread)
	require.ErrorContains(t, err, "read from the store")
	_, err = firstBatch(t, tail, 11, unread)
	require.ErrorIs(t, err, events.ErrOtherLog)
	require.Panics(t, func() { tail.Add(positions(11, 1, 1)...) })
}

func TestTailWakesAllWhoWait(t *testing.T) {
	const total = 500
	tail := events.NewTail(0)
	var waiting, caughtUp sync.WaitGroup
	for range 50 {
		caughtUp.Add(1)
		waiting.Go(func() {
			next := uint64(1)
			for batch, err := range tail.Subscribe(t.Context(), 0, unread) {
				if err != nil {
					if !errors.Is(err, events.ErrClosed) {
						t.Error(err)
					}
					return
				}
				for _, e := range batch {
					if e.Position != next {
						t.Errorf("position %d, want %d", e.Position, next)
					}
					next++
				}
				if next > total {
					caughtUp.Done() // and waits again, until the tail is closed
				}
			}
		})
	}
	for tail.Head() < total {
		tail.Add(positions(tail.Head(), 1, 1)...)
	}
	caughtUp.Wait()
	tail.Close()
	waiting.Wait()
}
