package operations

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
)

// soon is how long a test waits for what must come.
const soon = 30 * time.Second

type counting struct {
	To int `json:"to"`
}

// begun starts a job that tells how far it is, and ends when it is let go.
func begun(t *testing.T, j *jobs, to int) (b *job, letGo chan error) {
	t.Helper()
	letGo, running := make(chan error), make(chan struct{})
	b, err := j.start("count", counting{to}, func(ctx context.Context, tell progressing) (any, error) {
		tell("counting", 1, uint64(to))
		close(running)
		select {
		case err := <-letGo:
			return to, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	require.NoError(t, err)
	<-running
	return b, letGo
}

func someJobs(t *testing.T) *jobs {
	t.Helper()
	j := newJobs(slog.New(slog.DiscardHandler), nil)
	t.Cleanup(j.close)
	return j
}

func TestAJobTellsHowFarItIs(t *testing.T) {
	j := someJobs(t)
	b, letGo := begun(t, j, 3)
	require.Equal(t, Job[any]{Job: b.id, Operation: "count", Stage: "counting", Progress: 1, Total: 3}, b.wait(t.Context(), time.Millisecond))
	require.Same(t, b, j.find(b.id))
	letGo <- nil
	require.Equal(t, Job[any]{Job: b.id, Operation: "count", Done: true, Stage: "counting", Progress: 1, Total: 3, Result: 3}, b.wait(t.Context(), soon))
	require.Same(t, b, j.find(b.id), "a result is kept")
}

func TestOneJobOfAKindAtATime(t *testing.T) {
	j := someJobs(t)
	b, letGo := begun(t, j, 3)
	never := func(context.Context, progressing) (any, error) { panic("two at a time") }

	same, err := j.start("count", counting{3}, never)
	require.NoError(t, err)
	require.Same(t, b, same, "who asks for the same waits for the same job")
	_, err = j.start("count", counting{4}, never)
	require.Equal(t, "job_running", fault.Code(err))
	require.Equal(t, fault.Conflict, fault.Of(err).Kind)
	require.ErrorContains(t, err, `{"to":3}`)

	other, err := j.start("sing", counting{4}, func(context.Context, progressing) (any, error) { return "la", nil })
	require.NoError(t, err, "another kind does not wait")
	require.Equal(t, "la", other.wait(t.Context(), soon).Result)

	letGo <- nil
	b.wait(t.Context(), soon)
	again, letGo := begun(t, j, 3)
	require.NotSame(t, b, again, "what is done is done anew")
	letGo <- nil
}

func TestHowAJobFails(t *testing.T) {
	j := someJobs(t)
	b, letGo := begun(t, j, 1)
	letGo <- fault.New(fault.Invalid, "too_few", "one is too few").With("to", 1)
	require.Equal(t, &fault.Answer{Code: "too_few", Type: "invalid_data", Message: "one is too few", Details: map[string]any{"to": 1}},
		b.wait(t.Context(), soon).Error)

	b, letGo = begun(t, j, 2)
	letGo <- errors.New("a secret")
	require.Equal(t, "internal", b.wait(t.Context(), soon).Error.Code)
	require.NotContains(t, b.wait(t.Context(), soon).Error.Message, "secret")

	b, err := j.start("panic", nil, func(context.Context, progressing) (any, error) { panic("a bug") })
	require.NoError(t, err)
	at := b.wait(t.Context(), soon)
	require.True(t, at.Done)
	require.Equal(t, "internal", at.Error.Code)
}

func TestTheLastJobsAreKept(t *testing.T) {
	j := someJobs(t)
	var all []*job
	for range kept + 3 {
		b, letGo := begun(t, j, 1)
		letGo <- nil
		b.wait(t.Context(), soon)
		all = append(all, b)
	}
	for i, b := range all {
		if i < 3 {
			require.Nil(t, j.find(b.id), "job %d is forgotten", i)
		} else {
			require.Same(t, b, j.find(b.id))
		}
	}
}

func TestClosingEndsJobs(t *testing.T) {
	j := someJobs(t)
	b, _ := begun(t, j, 1)
	j.close()
	at := b.now()
	require.True(t, at.Done, "closing waits for jobs")
	require.Equal(t, "closing", at.Error.Code)
	_, err := j.start("count", counting{1}, nil)
	require.Equal(t, "closing", fault.Code(err))
}
