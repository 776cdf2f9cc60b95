package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

// operating answers operations as it is told to.
type operating func(ctx context.Context, name string) (any, error)

func (o operating) Operate(ctx context.Context, name string, _ []byte) (json.RawMessage, error) {
	answer, err := o(ctx, name)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

func (operating) Close() error { return nil }

// A job is waited for, although answers are lost on the way.
func TestAJobIsWaitedFor(t *testing.T) {
	t.Parallel()
	asked := 0
	op := operating(func(_ context.Context, name string) (any, error) {
		if name == "count" {
			return operations.Job[any]{Job: "job_1", Stage: "counting", Total: 3}, nil
		}
		require.Equal(t, "job", name)
		asked++
		switch asked {
		case 1:
			return operations.Job[any]{Job: "job_1", Stage: "counting", Progress: 1, Total: 3}, nil
		case 2:
			return nil, fault.New(fault.Unavailable, "disconnected", "the line is cut")
		default:
			return operations.Job[any]{Job: "job_1", Done: true, Result: 3}, nil
		}
	})
	var errs bytes.Buffer
	got, err := runJob[int](t.Context(), op, streams{err: &errs}, "count", nil)
	require.NoError(t, err)
	require.Equal(t, 3, got)
	require.Equal(t, "the line is cut; asking again\n", errs.String())
}

func TestAJobThatFails(t *testing.T) {
	t.Parallel()
	refusal := fault.Answer{Code: "no_room", Type: "invalid_data", Message: "the disk is full"}
	op := operating(func(context.Context, string) (any, error) {
		return operations.Job[any]{Job: "job_1", Done: true, Error: &refusal}, nil
	})
	_, err := runJob[int](t.Context(), op, streams{err: new(bytes.Buffer)}, "count", nil)
	require.Equal(t, refusal.Error(), fault.Of(err))

	forgotten := operating(func(_ context.Context, name string) (any, error) {
		if name == "job" {
			return nil, fault.New(fault.NotFound, "unknown_job", "there is no such job")
		}
		return operations.Job[any]{Job: "job_1"}, nil
	})
	_, err = runJob[int](t.Context(), forgotten, streams{err: new(bytes.Buffer)}, "count", nil)
	require.Equal(t, "unknown_job", fault.Code(err), "a server that was started anew has no such job")
}

// ^C ends the waiting, and not the job.
func TestNobodyHasToWait(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	running := operating(func(_ context.Context, name string) (any, error) {
		if name == "job" {
			stop()
		}
		return operations.Job[any]{Job: "job_1"}, nil
	})
	_, err := runJob[int](ctx, running, streams{err: new(bytes.Buffer)}, "count", nil)
	require.Equal(t, "interrupted", fault.Code(err))
	require.ErrorContains(t, err, "the server goes on with it")
}

func TestNobodyHasToWaitForARebuild(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	running := operating(func(context.Context, string) (any, error) {
		stop()
		return operations.Generations{Generations: []projections.Generation{{Model: "inventory", Number: 2, State: projections.Building}}}, nil
	})
	_, err := awaitRebuild(ctx, running, streams{err: new(bytes.Buffer)}, []projections.Generation{{Model: "inventory", Number: 2}})
	require.Equal(t, "interrupted", fault.Code(err))
}

func TestHowFarARebuildIs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	bar := newProgress(&out)
	bar.unit = "events"
	look := func(now ...projections.Generation) string {
		out.Reset()
		bar.told = time.Time{} // long ago
		tellRebuild(bar, now)
		return out.String()
	}
	inventory := projections.Generation{Model: "inventory", Number: 2, State: projections.Building, Head: 100}
	movements := projections.Generation{Model: "movements", Number: 2, State: projections.Building, Head: 100}
	require.Empty(t, look(inventory, movements), "nothing is said of what has only begun")
	inventory.Position, inventory.Rate, inventory.Remaining = 60, 20, 1.2
	movements.Position, movements.Rate, movements.Remaining = 20, 10, 8
	require.Equal(t, "rebuilding inventory and movements: 80 of 200 events, 30 a second, 8s left\n", look(inventory, movements))
	movements.Position, movements.Head, movements.Waiting = 30, 110, "the disk is full"
	require.Equal(t, "generation 2 of movements cannot go on yet: the disk is full\n"+
		"rebuilding inventory and movements: 90 of 210 events, 30 a second, 8s left\n", look(inventory, movements))
}

func TestARebuildThatWillNotCatchUp(t *testing.T) {
	t.Parallel()
	begun := []projections.Generation{{Model: "inventory", Number: 2}}
	_, err := asTheyAre(begun, []projections.Generation{{Model: "inventory", Number: 2, Stopped: "event 7: it makes no sense"}})
	require.EqualError(t, err, "generation 2 of inventory has stopped: event 7: it makes no sense")
	_, err = asTheyAre(begun, []projections.Generation{{Model: "inventory", Number: 1}, {Model: "movements", Number: 2}})
	require.ErrorContains(t, err, "somebody dropped it")
}

func TestARebuildThatIsUnderWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	asked := 0
	op := operating(func(_ context.Context, name string) (any, error) {
		all := []projections.Generation{{Model: "inventory", Number: 1}, {Model: "inventory", Number: 3}, {Model: "movements", Number: 2}}
		if name == "list-generations" {
			return operations.Generations{Generations: all}, nil
		}
		if asked++; asked == 3 {
			return operations.Generations{Generations: all[2:]}, nil
		}
		return nil, fault.New(fault.Conflict, rebuildRunning, "one is being built")
	})
	var errs strings.Builder
	under, err := new(rebuild).begin(t.Context(), op, streams{err: &errs})
	require.NoError(t, err)
	require.Equal(t, []projections.Generation{{Model: "inventory", Number: 3}, {Model: "movements", Number: 2}}, under)
	require.Equal(t, "generation 3 of inventory is being built already\n", errs.String())
}

// Another operator may begin to rebuild a model between two questions of ours.
func TestARebuildThatSomebodyElseBeginsMeanwhileIsWaitedFor(t *testing.T) {
	t.Parallel()
	now := []projections.Generation{{Model: "inventory", Number: 1}, {Model: "inventory", Number: 2}, {Model: "movements", Number: 1}}
	asked := 0
	op := operating(func(_ context.Context, name string) (any, error) {
		if name == "list-generations" {
			return operations.Generations{Generations: now}, nil
		}
		if asked++; asked == 2 { // when movements are not yet asked for
			now = append(now, projections.Generation{Model: "movements", Number: 2})
		}
		return nil, fault.New(fault.Conflict, rebuildRunning, "one is being built")
	})
	var errs strings.Builder
	under, err := new(rebuild).begin(t.Context(), op, streams{err: &errs})
	require.NoError(t, err)
	require.Equal(t, []projections.Generation{{Model: "inventory", Number: 2}, {Model: "movements", Number: 2}}, under)
}

// A model that waits for room on the disk goes on by itself; one that has stopped does not.
func TestWhatWaitsHasNotStopped(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(partStatus{Name: "inventory", Behind: 1, Waiting: "the disk is full"})
	require.NoError(t, err)
	var part row
	require.NoError(t, json.Unmarshal(text, &part))
	require.Equal(t, "WAITING: the disk is full", modelState(part))
	require.EqualError(t, health{Models: []row{part}}.verdict(), "inventory waits, and goes on by itself once it can: the disk is full")
}

func TestSizesAreForPeople(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[string]string{"0": "0 B", "1023": "1023 B", "1024": "1 KiB", "1572864": "2 MiB", "2147483648": "2.0 GiB"} {
		require.Equal(t, want, size(row{"bytes": json.RawMessage(bytes)}, "bytes"))
	}
}
