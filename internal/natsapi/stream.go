package natsapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// ensureStream opens a stream, and creates it where there is none. A stream of
// that name with other subjects or another retention is somebody else's. What
// an operator may tune, such as how long messages are kept, follows want;
// metadata stays as it was when the stream was created.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // created by another just now
			stream, err = js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	have := stream.CachedInfo().Config
	if !slices.Equal(have.Subjects, want.Subjects) || have.Retention != want.Retention {
		return nil, fmt.Errorf("stream %s is for %v (%v), not for %v (%v): choose another prefix, or remove it with `nats stream rm %s`",
			want.Name, have.Subjects, have.Retention, want.Subjects, want.Retention, want.Name)
	}
	if have.MaxAge != want.MaxAge && want.MaxAge != 0 {
		have.MaxAge = want.MaxAge
		if stream, err = js.UpdateStream(ctx, have); err != nil {
			return nil, fmt.Errorf("stream %s: keep messages for %s: %w", want.Name, want.MaxAge, err)
		}
	}
	info := *stream.CachedInfo()
	info.Config.Metadata = maps.Clone(info.Config.Metadata)
	return &info, nil
}
