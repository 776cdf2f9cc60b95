//go:build unix

package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A wire is all that a process has to talk to some servers: it can be held, so that
// nothing of what the process says arrives, and let go, so that all of it does, late.
// What the servers say arrives all the while.
type wire struct {
	addresses []string // one for each server

	mu       sync.Mutex
	moved    sync.Cond // whenever held changes, something was said, or the end is near
	held     bool
	closed   bool
	said     bytes.Buffer // by the process, while it was held
	heard    bytes.Buffer // by it, since it was held first
	listen   bool
	conns    []net.Conn
	carriers sync.WaitGroup
}

// startWire puts a wire before servers. It ends with the test.
func startWire(t *testing.T, servers ...string) *wire {
	t.Helper()
	w := new(wire)
	w.moved.L = &w.mu
	t.Cleanup(w.carriers.Wait) // runs last
	for _, server := range servers {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		w.addresses = append(w.addresses, l.Addr().String())
		w.carriers.Go(func() { w.accept(l, server) })
		t.Cleanup(func() { _ = l.Close() })
	}
	t.Cleanup(w.cut)
	return w
}

// cut ends all connections.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.moved.Broadcast()
}

// hosts are where the process connects, with commas.
func (w *wire) hosts() string { return strings.Join(w.addresses, ",") }

func (w *wire) accept(l net.Listener, server string) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", server)
		if err != nil {
			_ = near.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, near, far)
		if w.closed {
			_, _ = near.Close(), far.Close()
		}
		w.mu.Unlock()
		w.carriers.Go(func() { w.carry(near, far) })
		w.carriers.Go(func() {
			_, _ = io.Copy(io.MultiWriter(near, heardBy{w}), far)
			_ = near.Close()
		})
	}
}

// carry carries what the process says, unless the wire is held.
func (w *wire) carry(near, far net.Conn) {
	var waiting bytes.Buffer
	var ended bool
	w.carriers.Go(func() {
		chunk := make([]byte, 64<<10)
		for {
			n, err := near.Read(chunk)
			w.mu.Lock()
			waiting.Write(chunk[:n])
			if w.held {
				w.said.Write(chunk[:n])
			}
			ended = err != nil
			w.moved.Broadcast()
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	for {
		w.mu.Lock()
		for !w.closed && !ended && (w.held || waiting.Len() == 0) {
			w.moved.Wait()
		}
		for w.held && !w.closed { // what was said arrives late, but it arrives
			w.moved.Wait()
		}
		text := bytes.Clone(waiting.Bytes())
		waiting.Reset()
		over := w.closed || ended && len(text) == 0
		w.mu.Unlock()
		if over {
			_ = far.Close()
			return
		}
		if _, err := far.Write(text); err != nil {
			_ = near.Close()
			return
		}
	}
}

// heardBy notes what the servers say.
type heardBy struct{ *wire }

func (h heardBy) Write(text []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listen {
		h.heard.Write(text)
	}
	return len(text), nil
}

// hold keeps what the process says from now on.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held, w.listen = true, true
}

// letGo lets it arrive.
func (w *wire) letGo() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = false
	w.heard.Reset()
	w.moved.Broadcast()
}

// holds reports whether the process has said this while it was held.
func (w *wire) holds(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.said.Bytes(), []byte(text))
}

// toldSince is what the servers said since the wire was let go.
func (w *wire) toldSince() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.String()
}
