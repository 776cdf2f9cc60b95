package esdbstore

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errHung is the panic of a call that was inside the client when that was
// closed.
var errHung = errors.New("the client was closed during the call")

// errLate says of a call that was refused for its size, or seems to have been, that
// it was made before with unknown outcome, and may take effect yet.
var errLate = errors.New("an earlier attempt may arrive late")

// failure is what can be done about an error of the client.
type failure uint8

const (
	unknown  failure = iota // it may have taken effect, and the same again is safe
	moved                   // the stream is not at the revision expected
	missing                 // there is no such stream
	refused                 // now and for ever: the login, the right, a stream deleted for good
	oversize                // the server takes less at once
)

// judge tells by codes what an error of the client means. The client wraps some
// of its errors, and gives an error of gRPC for others.
//
// An append that was cut off while it was being sent shows as io.EOF, whatever the
// reason: its size, a right that is missing, a connection that broke. The server
// had not all of it, so nothing was recorded. [insist] has repeated it before it
// comes here, so that it is not the connection.
func judge(err error) failure {
	if e, ok := errors.AsType[*esdb.Error](err); ok {
		switch e.Code() {
		case esdb.ErrorCodeWrongExpectedVersion:
			return moved
		case esdb.ErrorCodeResourceNotFound:
			if codeOf(err) == codes.NotFound { // it does not say who leads
				return unknown
			}
			return missing
		case esdb.ErrorCodeAccessDenied, esdb.ErrorCodeUnauthenticated, esdb.ErrorCodeStreamDeleted, esdb.ErrorCodeUnsupportedFeature:
			return refused
		default: // by what is below
		}
	}
	switch code := codeOf(err); {
	case code == codes.InvalidArgument, errors.Is(err, io.EOF):
		return oversize
	case code == codes.PermissionDenied, code == codes.Unauthenticated:
		return refused
	default:
		return unknown
	}
}

// broken reports whether the client must not be used again: it lost its
// connection, closed itself, or speaks to a server that does not lead.
func broken(err error) bool {
	if e, ok := errors.AsType[*esdb.Error](err); ok && (e.Code() == esdb.ErrorUnavailable || e.Code() == esdb.ErrorCodeConnectionClosed) {
		return true
	}
	code := codeOf(err)
	return errors.Is(err, errHung) || code == codes.Unavailable || code == codes.NotFound
}

// late reports whether a deadline ended the call.
func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || codeOf(err) == codes.DeadlineExceeded
}

// codeOf is the gRPC code inside an error of the client.
func codeOf(err error) codes.Code {
	var with interface{ GRPCStatus() *status.Status }
	if errors.As(err, &with) {
		return with.GRPCStatus().Code()
	}
	return codes.Unknown
}

var butGot = regexp.MustCompile(`but got '(\d+|no_stream)'$`)

// revisionIn finds the revision a stream is at in the text of a wrong expected
// version, -1 for a stream that is not there. The client tells it nowhere else.
func revisionIn(err error) (revision int64, found bool) {
	e, ok := errors.AsType[*esdb.Error](err)
	if !ok || e.Code() != esdb.ErrorCodeWrongExpectedVersion || e.Err() == nil {
		return 0, false
	}
	match := butGot.FindStringSubmatch(strings.TrimSpace(e.Err().Error()))
	if match == nil {
		return 0, false
	}
	if match[1] == "no_stream" {
		return -1, true
	}
	revision, numberErr := strconv.ParseInt(match[1], 10, 64)
	return revision, numberErr == nil
}
