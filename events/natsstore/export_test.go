package natsstore

import "context"

// Passing reports whether an error is of servers that come and go.
func Passing(err error) bool { return passing(err) }

// OpenNarrow is Open with bounds so small that everything is beyond them.
func OpenNarrow(ctx context.Context, c Config) (*Store, error) {
	return open(ctx, c, bounds{warm: 3, page: 2, near: 1, ahead: 2, echoes: 2, group: 3})
}
