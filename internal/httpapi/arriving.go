package httpapi

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

// arrivingBytes bounds the bodies that are under way to us. A body counts by what
// has come of it, so whoever would keep others out has to send as much.
const arrivingBytes = 2 * transport.InFlightBytes

// arriving counts the bytes of bodies that are not whole yet.
type arriving struct {
	limit int64
	held  atomic.Int64
}

func newArriving(limit int64) *arriving { return &arriving{limit: limit} }

// whole waits for the body of a request.
func (a *arriving) whole(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBody {
		return nil, transport.TooLarge(int(r.ContentLength), MaxBody)
	}
	counted := &counted{Reader: http.MaxBytesReader(w, r.Body, MaxBody), in: a}
	defer func() { a.held.Add(-counted.come) }()
	body, err := io.ReadAll(counted)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, transport.TooLarge(0, MaxBody)
	}
	if _, refused := errors.AsType[*fault.Error](err); err != nil && !refused {
		err = fault.New(fault.Invalid, "incomplete_body", "the body of the request did not arrive whole; send it again")
	}
	return body, err
}

// counted is a body that is counted as it comes.
type counted struct {
	io.Reader

	in   *arriving
	come int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.come += int64(n)
	if c.in.held.Add(int64(n)) > c.in.limit {
		return n, fault.New(fault.Unavailable, "busy",
			"more bodies are arriving than the ledger takes at once; nothing was changed, send it again in 1 s").With("retry_after", 1.0)
	}
	return n, err
}
