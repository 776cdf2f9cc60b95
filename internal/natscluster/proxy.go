package natscluster

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Proxy stands between clients and one server, and spoils what goes through it
// when it is told to. It ends with the test.
type Proxy struct {
	listener net.Listener
	server   string // HOST:PORT
	ended    sync.WaitGroup

	mu     sync.Mutex
	conns  map[*link]bool
	closed bool
	fault  Fault
	prefix string // of the subjects the fault is for
	struck chan struct{}
}

// A Fault is what happens to a publish that wants an answer.
type Fault int

const (
	// None spoils nothing.
	None Fault = iota
	// CutBefore ends the connection instead of passing the publish on.
	CutBefore
	// CutAfter passes the publish on and ends the connection instead of passing
	// the answer on.
	CutAfter
	// LoseAnswer passes the publish on and loses the answer; the connection stays.
	LoseAnswer
)

// A link is a client's connection with the one to the server.
type link struct {
	client, server net.Conn
	lost           string // the subject of the answer that does not arrive
	then           Fault
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// Behind makes a proxy in front of a server.
func Behind(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	require.NoError(t, err)
	p := &Proxy{listener: listener, server: server, conns: make(map[*link]bool)}
	p.ended.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = listener.Close()
		p.Cut()
		p.ended.Wait()
	})
	return p
}

// URL is where clients connect.
func (p *Proxy) URL() string { return fmt.Sprintf("nats://%s", p.listener.Addr()) }

// Strike spoils the next publish to a subject with that prefix that wants an
// answer. The channel it returns is closed once that has happened.
func (p *Proxy) Strike(prefix string, fault Fault) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prefix, p.fault, p.struck = prefix, fault, make(chan struct{})
	return p.struck
}

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.conns {
		l.close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server) //nolint:noctx // it is on this machine
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.conns[l] = true
		if p.closed {
			l.close()
		}
		p.mu.Unlock()
		p.ended.Go(func() { p.carry(l, client, server, p.fromClient) })
		p.ended.Go(func() { p.carry(l, server, client, p.fromServer) })
	}
}

// carry passes on what comes from one side to the other, operation by operation,
// if judge says so, until either is closed.
func (p *Proxy) carry(l *link, from, to net.Conn, judge func(l *link, words []string) (pass, cut bool)) {
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.conns, l)
		p.mu.Unlock()
	}()
	in, out := bufio.NewReaderSize(from, 1<<16), bufio.NewWriterSize(to, 1<<16)
	for {
		operation, words, err := next(in)
		if err != nil {
			return
		}
		pass, cut := judge(l, words)
		if pass {
			_, err = out.Write(operation)
		}
		if err == nil && (in.Buffered() == 0 || cut) {
			err = out.Flush()
		}
		if err != nil || cut {
			return
		}
	}
}

// next reads one operation of the NATS protocol, with its payload.
func next(in *bufio.Reader) (operation []byte, words []string, err error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, nil, err
	}
	words = strings.Fields(string(line))
	if len(words) == 0 {
		return line, []string{""}, nil
	}
	switch words[0] {
	case "PUB", "HPUB", "MSG", "HMSG":
		size, err := strconv.Atoi(words[len(words)-1])
		if err != nil {
			return nil, nil, err
		}
		payload := make([]byte, size+2)
		if _, err := io.ReadFull(in, payload); err != nil {
			return nil, nil, err
		}
		line = append(line, payload...)
	}
	return line, words, nil
}

// fromClient judges what a client sends: HPUB subject answer sizes.
func (p *Proxy) fromClient(l *link, words []string) (pass, cut bool) {
	wants := words[0] == "HPUB" && len(words) == 5 || words[0] == "PUB" && len(words) == 4
	p.mu.Lock()
	defer p.mu.Unlock()
	if !wants || p.fault == None || !strings.HasPrefix(words[1], p.prefix) {
		return true, false
	}
	fault := p.fault
	p.fault = None
	if fault == CutBefore {
		close(p.struck)
		return false, true
	}
	l.lost, l.then = words[2], fault
	return true, false
}

// fromServer judges what the server sends: MSG subject subscription sizes.
func (p *Proxy) fromServer(l *link, words []string) (pass, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.then == None || len(words) < 2 || words[1] != l.lost {
		return true, false
	}
	cut = l.then == CutAfter
	l.then = None
	close(p.struck)
	return false, cut
}
