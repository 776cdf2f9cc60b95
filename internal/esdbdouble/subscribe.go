package esdbdouble

import (
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// liveBuffer is how many events the server keeps for a live subscription that
// does not take them; with more it goes back to reading the log (Enumerator.cs,
// LiveChannelOptions).
const liveBuffer = 32

// subscription is a call of Read that does not end.
type subscription struct {
	reading
	abort chan error // one error that is to end it

	// With a filter there are checkpoints.
	interval   int64 // records between two of them; 0: none are sent
	considered int64 // live records since the last one
	confirmed  int   // the index of the first record that counts as live
	sent       *position
}

func (r reading) open() *subscription {
	sub := &subscription{reading: r, abort: make(chan error, 1)}
	if wanted := r.options.GetFilter(); wanted != nil {
		sub.interval = r.window * int64(wanted.GetCheckpointIntervalMultiplier())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subs[sub] = struct{}{}
	return sub
}

func (sub *subscription) close() {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	delete(sub.subs, sub)
}

// Subscriptions is how many subscriptions are open.
func (s *Server) Subscriptions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs)
}

// subscribeAll is a subscription to $all (Enumerator.AllSubscription.cs,
// Enumerator.AllSubscriptionFiltered.cs).
func (r reading) subscribeAll() error {
	sub := r.open()
	defer sub.close()
	if r.options.GetFilter() != nil && sub.interval == 0 {
		return errHandler
	}
	last, index := r.cluster.last()
	sub.confirmed = index
	if err := sub.confirm(); err != nil {
		return err
	}
	at := last // the end
	switch option := r.options.GetAll().GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Start:
		at = headOfLog
	case *streams.ReadReq_Options_AllOptions_Position:
		at = position{int64(option.Position.CommitPosition), int64(option.Position.PreparePosition)}
	}
	live := at.compare(last) >= 0
	for {
		if !live {
			var err error
			if at, index, err = sub.catchUpAll(at); err != nil {
				return err
			}
		}
		if err := sub.caughtUp(); err != nil {
			return err
		}
		var err error
		if at, err = sub.liveAll(at, index); err != nil {
			return err
		}
		live = false
	}
}

// catchUpAll sends what comes after a position, to the end of the log. It
// returns where it is then, and the index of the first record it has not seen.
func (sub *subscription) catchUpAll(at position) (position, int, error) {
	from := at
	if from.compare(firstOfLog) < 0 {
		from = firstOfLog
	}
	for considered := int64(0); ; {
		if err := sub.mayReadOn(); err != nil {
			return at, 0, err
		}
		page := sub.cluster.allForwards(from, pageSize, sub.window, sub.passes)
		if page.result != readOK {
			return at, 0, status.Error(codes.InvalidArgument, "Trying to read from an invalid position.")
		}
		for _, e := range page.events {
			if e.at().compare(at) <= 0 {
				continue
			}
			if err := sub.send(e); err != nil {
				return at, 0, err
			}
			at = e.at()
		}
		if at.compare(from) < 0 && from.compare(page.next) < 0 {
			at = from // nothing before it is left to be sent, but it has yet to be
		}
		considered += page.considered
		if page.ends {
			if at.compare(firstOfLog) < 0 && firstOfLog.compare(page.next) < 0 {
				at = firstOfLog
			}
			if sub.checkpointsAtEnd.Load() && sub.interval > 0 {
				at = position{page.end, page.end}
			}
			return at, page.index, sub.checkpoint(at)
		}
		if sub.interval > 0 && considered >= sub.interval {
			considered %= sub.interval
			if err := sub.checkpoint(at); err != nil {
				return at, 0, err
			}
		}
		from = page.next
	}
}

// liveAll sends what is appended, until more waits than the server keeps. It
// returns where it is then.
func (sub *subscription) liveAll(at position, index int) (position, error) {
	for {
		records, more := sub.cluster.tail(index)
		behind := 0
		for _, e := range records {
			if !e.hidden && sub.passes(e) {
				behind++
			}
		}
		if behind > liveBuffer {
			sub.count(len(records), index)
			return at, sub.checkpoint(at)
		}
		for _, e := range records {
			if err := sub.mayGoOn(); err != nil {
				return at, err
			}
			if !e.hidden && sub.passes(e) && e.at().compare(at) > 0 {
				if err := sub.send(e); err != nil {
					return at, err
				}
				at = e.at()
			}
			if !e.hidden && sub.due(index) && e.at().compare(at) >= 0 {
				if err := sub.checkpoint(e.at()); err != nil {
					return at, err
				}
				at = e.at()
			}
			index++
		}
		if err := sub.wait(more); err != nil {
			return at, err
		}
	}
}

// due counts a live record, and says whether a checkpoint is to follow it.
func (sub *subscription) due(index int) bool {
	if sub.interval == 0 || index < sub.confirmed {
		return false
	}
	sub.considered++
	if sub.considered < sub.interval {
		return false
	}
	sub.considered = 0
	return true
}

// count counts live records that are passed over.
func (sub *subscription) count(n, index int) {
	if passed := index + n - max(index, sub.confirmed); sub.interval > 0 && passed > 0 {
		sub.considered = (sub.considered + int64(passed)) % sub.interval
	}
}

// checkpoint sends one if there are checkpoints, and if it is not behind the
// last one that was sent.
func (sub *subscription) checkpoint(at position) error {
	if sub.interval == 0 || at == headOfLog || sub.sent != nil && at.compare(*sub.sent) <= 0 {
		return nil
	}
	sub.sent = &at
	message := &streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{
		CommitPosition: uint64(at.commit), PreparePosition: uint64(at.prepare),
	}}}
	if sub.duplicates.Load() {
		if err := sub.call.Send(message); err != nil {
			return err
		}
	}
	return sub.call.Send(message)
}

// subscribeStream is a subscription to one stream
// (Enumerator.StreamSubscription.cs).
func (r reading) subscribeStream(name string) error {
	sub := r.open()
	defer sub.close()
	last := r.cluster.headOf(name)
	if last == deletedStream {
		return refuseDeleted(r.call, name)
	}
	if err := sub.confirm(); err != nil {
		return err
	}
	at := last // the end
	switch option := r.options.GetStream().GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Start:
		at = -1
	case *streams.ReadReq_Options_StreamOptions_Revision:
		at = int64(option.Revision)
	}
	live := at >= last
	for {
		if !live {
			var err error
			if at, err = sub.catchUpStream(name, at); err != nil {
				return err
			}
		}
		if err := sub.caughtUp(); err != nil {
			return err
		}
		var err error
		if at, err = sub.liveStream(name, at); err != nil {
			return err
		}
		live = false
	}
}

func (sub *subscription) catchUpStream(name string, at int64) (int64, error) {
	for from := at + 1; ; {
		if err := sub.mayReadOn(); err != nil {
			return at, err
		}
		page := sub.cluster.streamForwards(name, from, pageSize)
		switch page.result {
		case readOK:
		case readNoStream:
			return at, nil
		case readDeleted:
			return at, refuseDeleted(sub.call, name)
		default:
			return at, status.Error(codes.Unknown, "Unexpected ReadStreamResult: Error")
		}
		for _, e := range page.events {
			if err := sub.send(e); err != nil {
				return at, err
			}
			at = e.revision
		}
		if page.ends {
			return at, nil
		}
		from = page.next
	}
}

func (sub *subscription) liveStream(name string, at int64) (int64, error) {
	for {
		events, tombstone, more := sub.cluster.tailOf(name, at+1)
		if len(events) > liveBuffer {
			return at, nil
		}
		for _, e := range events {
			if err := sub.mayGoOn(); err != nil {
				return at, err
			}
			if err := sub.send(e); err != nil {
				return at, err
			}
			at = e.revision
		}
		if tombstone != nil {
			if err := sub.send(tombstone); err != nil {
				return at, err
			}
			return at, refuseDeleted(sub.call, name)
		}
		if err := sub.wait(more); err != nil {
			return at, err
		}
	}
}

func (sub *subscription) confirm() error {
	return sub.call.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()},
	}})
}

func (sub *subscription) caughtUp() error {
	return sub.call.Send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}})
}

// mayReadOn says why a subscription must not read the log: it was aborted, its
// caller is gone, or he asked for the leader and this node is not. A live
// subscription does not ask the last: it stays where it is when the leader changes.
func (sub *subscription) mayReadOn() error {
	if err := sub.mayGoOn(); err != nil {
		return err
	}
	return sub.refuseFollowing(sub.call)
}

// mayGoOn says why a subscription must end: it was aborted, or its caller is gone.
func (sub *subscription) mayGoOn() error {
	select {
	case err := <-sub.abort:
		return err
	case <-sub.call.Context().Done():
		return status.FromContextError(sub.call.Context().Err()).Err()
	default:
		return nil
	}
}

func (sub *subscription) wait(more <-chan struct{}) error {
	select {
	case <-more:
		return nil
	case err := <-sub.abort:
		return err
	case <-sub.call.Context().Done():
		return status.FromContextError(sub.call.Context().Err()).Err()
	}
}
