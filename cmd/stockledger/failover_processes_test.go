//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A child is a process that a test starts, kills, stops and lets go on. It ends
// with the test.
type child struct {
	name string
	cmd  *exec.Cmd
	dead chan struct{} // closed once it is no more, and waited for
}

// startChild starts a program. What it writes is appended to the log of its name.
func startChild(logs *childLogs, name, program string, args ...string) (*child, error) {
	log, err := os.OpenFile(logs.path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &child{name: name, cmd: exec.Command(program, args...), dead: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.Env = append(os.Environ(), "STOCKLEDGER_CONFIG=")
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = c.cmd.Wait() // how it ended is in its log, or was our doing
		close(c.dead)
	}()
	return c, nil
}

// ended reports whether the process is no more.
func (c *child) ended() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// kill ends the process as a power cut would: kill -9, stopped or not.
func (c *child) kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.dead
	return nil
}

// stop takes the processor away from the process (SIGSTOP): its connections stay
// open, and nobody answers on them.
func (c *child) stop() error { return c.cmd.Process.Signal(syscall.SIGSTOP) }

// goOn gives it back.
func (c *child) goOn() error { return c.cmd.Process.Signal(syscall.SIGCONT) }

// end tells the process to end by itself, and kills it if it does not. The error
// says that it had to, or that it ended badly.
func (c *child) end() error {
	if c.ended() {
		return nil
	}
	_ = c.goOn()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", c.name, err)
	}
	select {
	case <-c.dead:
	case <-time.After(patienceInTests):
		return errors.Join(fmt.Errorf("%s did not end within %s when told to", c.name, patienceInTests), c.kill())
	}
	if !c.cmd.ProcessState.Success() {
		return fmt.Errorf("%s, told to end, ended with %s", c.name, c.cmd.ProcessState)
	}
	return nil
}

// childLogs are what the processes of a test write, one file for each name. They
// are kept when the test fails.
type childLogs struct{ dir string }

func newChildLogs(t *testing.T) *childLogs {
	t.Helper()
	dir, err := os.MkdirTemp("", "stockledger-processes-") //nolint:usetesting // it stays when the test fails
	require.NoError(t, err)
	l := &childLogs{dir}
	t.Cleanup(func() {
		if !t.Failed() {
			require.NoError(t, os.RemoveAll(dir))
			return
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, file := range files {
			t.Logf("the end of %s:\n%s", file, tailOf(file, 40))
		}
		t.Logf("what the processes wrote is kept in %s", dir)
	})
	return l
}

func (l *childLogs) path(name string) string { return filepath.Join(l.dir, name+".log") }

// of is what the processes of that name wrote.
func (l *childLogs) of(name string) string {
	text, _ := os.ReadFile(l.path(name))
	return string(text)
}

// tailOf is the last lines of a file.
func tailOf(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// until waits until something holds, and says what it waited for if it never does.
func until(holds func() bool, what string, args ...any) error {
	deadline := time.Now().Add(patienceInTests)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			return fmt.Errorf("within %s it did not come about that "+what, append([]any{patienceInTests}, args...)...)
		}
		<-tick.C
	}
	return nil
}

// Programs that run beside the tests are built once for a run, beside the test
// binary's own copy, which goes when the run ends. They are built without the race
// detector: many of them run at once, and what is watched here is between them.
var builtPrograms = map[string]func() (string, error){
	"nats-server":      sync.OnceValues(func() (string, error) { return build("nats-server", "github.com/nats-io/nats-server/v2") }),
	"stockledger-node": sync.OnceValues(func() (string, error) { return build("stockledger-node", ".") }),
}

func builtProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := builtPrograms[name]()
	require.NoError(t, err)
	return path
}

func build(name, from string) (string, error) {
	own, err := exec.LookPath("stockledger")
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(own), name)
	cmd := exec.Command("go", "build", "-o", path, from)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", from, err, strings.TrimSpace(string(out)))
	}
	return path, nil
}
