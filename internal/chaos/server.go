package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// readyWithin is how long a server may take until it serves, on a busy machine
	// and after a long log.
	readyWithin = 2 * time.Minute
	// lookEvery is how often is looked for what comes without a word.
	lookEvery = time.Millisecond
)

// A server is a ledger in a process of its own.
type server struct {
	cmd     *exec.Cmd
	dead    chan struct{} // closed once it is no more, and waited for
	file    string        // that says where it is
	log     string
	url     string // of NATS
	ordered bool   // its end was asked for
}

// serverCommand is the subcommand that runs the program with the arguments behind it,
// until what it reads ends.
const serverCommand = "chaos-server"

// launch starts a server, child being the arguments of one that is to die by itself;
// nil is the program as everybody runs it. It ends with this process, which holds the
// pipe that it reads, however this process ends.
func (c *campaign) launch(child []string) (*server, error) {
	s := &server{dead: make(chan struct{}), file: filepath.Join(c.Dir, readyFile), log: filepath.Join(c.Dir, serverLog)}
	if err := os.Remove(s.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := []string{"serve", "--nats-listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}
	if child != nil {
		args = child
		s.ordered = true
	}
	args = slices.Concat([]string{serverCommand}, args, []string{"--data", c.data(), "--ready-file", s.file})
	s.cmd = exec.Command(c.Program, args...) //nolint:gosec,noctx // G204: the program is our own; it ends by kill
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = ownEnvironment()
	if _, err := s.cmd.StdinPipe(); err != nil { // which Wait closes
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is asked for later
		close(s.dead)
	}()
	return s, nil
}

// ownEnvironment is the environment without what configures a ledger.
func ownEnvironment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "STOCKLEDGER_") {
			env = append(env, v)
		}
	}
	return env
}

// ready waits until the server serves.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		text, err := os.ReadFile(s.file)
		if err == nil {
			var at struct {
				NATS string `json:"nats_url"`
			}
			err = json.Unmarshal(text, &at)
			s.url = at.NATS
			return err
		}
		if err := pause(ctx, lookEvery, s.dead); err != nil {
			return fmt.Errorf("the server does not serve: %w\n%s", err, s.said())
		}
	}
}

// errDied is that a server ended although nobody killed it.
var errDied = errors.New("it ended by itself")

// pause waits for a while, or until the server is dead, or ctx ends.
func pause(ctx context.Context, d time.Duration, dead <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-dead:
		return errDied
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the process with SIGKILL: it is told nothing, and nothing of it runs on.
func (s *server) kill() error {
	s.ordered = true
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the server: %w", err)
	}
	<-s.dead
	return nil
}

// reap sees that a server ended by being killed, by us or by itself where that was
// its order.
func (s *server) reap() error {
	<-s.dead
	if state := s.cmd.ProcessState.String(); !s.ordered || state != "signal: killed" {
		return fmt.Errorf("the server ended with %q:\n%s", state, s.said())
	}
	return nil
}

// said is the end of what the servers wrote.
func (s *server) said() string {
	const lines = 20
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
