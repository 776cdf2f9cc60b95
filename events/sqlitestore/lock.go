package sqlitestore

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/gofrs/flock"

	"github.com/stockledger/stockledger/events"
)

// lock takes path+".lock" for this process and writes the process id into it.
// The file stays when the lock is released: removing it would race with the
// next holder.
func lock(path string) (*flock.Flock, error) {
	name := path + ".lock"
	l := flock.New(name)
	held, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if !held {
		return nil, fmt.Errorf("%s is %w: %s", path, events.ErrInUse, holder(name))
	}
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		_ = l.Unlock()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return l, nil
}

// holder says who holds the lock, as far as its file tells.
func holder(name string) string {
	text, err := os.ReadFile(name) //nolint:gosec // G304: the name is the operator's
	pid, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil || parseErr != nil:
		return "its holder is not known"
	case pid == os.Getpid():
		return fmt.Sprintf("this process, %d, has it open", pid)
	}
	return fmt.Sprintf("process %d has it open", pid)
}
