package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stockledger/stockledger/internal/race"
)

// The test binary is also the program, so that scripts and tests run real
// processes.
func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"stockledger": main}) }

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": scriptReady,
			"exits": scriptExits,
		},
		Condition: func(name string) (bool, error) {
			if name == "race" {
				return race.On, nil
			}
			return false, fmt.Errorf("there is no condition %q", name)
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("STOCKLEDGER_SERVER", "nats://127.0.0.1:1") // nobody
			env.Setenv("STOCKLEDGER_HTTP", "127.0.0.1:0")          // many at once
			env.Setenv("TMPDIR", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // a second for each process otherwise
			return nil
		},
	})
}

// patienceInTests is how long a process may take to come up, on a busy machine
// and with the race detector.
const patienceInTests = time.Minute

// ready FILE waits until the ledger in the background has written its ready
// file, and makes it the one that the commands that follow talk to.
func scriptReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready file")
	}
	at, err := waitReady(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("STOCKLEDGER_SERVER", at.NATS)
	ts.Setenv("NATS_URL", at.NATS)
	ts.Setenv("HTTP_URL", at.HTTP)
}

// waitReady waits for a ready file.
func waitReady(path string) (at ready, err error) {
	for deadline := time.Now().Add(patienceInTests); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return at, err
		}
		return at, json.Unmarshal(text, &at)
	}
	return at, fmt.Errorf("%s was not written within %s", path, patienceInTests)
}

// exits STATUS COMMAND… runs a command and wants that exit status.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits status command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
