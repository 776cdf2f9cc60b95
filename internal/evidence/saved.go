package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stockledger/stockledger/events"
)

// saved is a chain as it is kept in a file, to go on from.
type saved struct {
	Log      string      `json:"log"`
	Position uint64      `json:"position"`
	Hash     events.Hash `json:"hash"` // of the event at the position
	Digest   events.Hash `json:"digest"`
	Sum      events.Hash `json:"sum"` // of all that, so that damage shows
}

func (s saved) sum() events.Hash {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d %s %s", s.Log, s.Position, s.Hash, s.Digest))
}

// resume is the chain to go on from: the one in the file when the log, which ends
// at end, has the event that it ends with, and an empty one otherwise.
func resume(ctx context.Context, store events.Store, file string, end uint64) chain {
	anew := chain{log: store.LogID()}
	text, err := os.ReadFile(file) //nolint:gosec // G304: it is in the data directory
	if err != nil {
		return anew
	}
	var s saved
	if json.Unmarshal(text, &s) != nil || s.Sum != s.sum() || s.Log != anew.log || s.Position == 0 || s.Position > end {
		return anew
	}
	c := chain{log: s.Log, position: s.Position, digest: s.Digest}
	err = walk(ctx, store, s.Position-1, s.Position, func(e events.Recorded) error {
		c.last = e
		return nil
	})
	if err != nil || c.last.Hash != s.Hash {
		return anew // and whoever reads the log from its beginning says what is wrong with it
	}
	return c
}

// save keeps the chain in the file. What cannot be kept is computed anew.
func (c *chain) save(file string) {
	if file == "" {
		return
	}
	s := saved{Log: c.log, Position: c.position, Hash: c.last.Hash, Digest: c.digest}
	s.Sum = s.sum()
	text, err := json.Marshal(s)
	if err == nil {
		_ = write(file, text)
	}
}

// write makes a file that is there whole or not at all, for its owner only.
func write(path string, content []byte) error {
	return replace(path, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// replace makes a file of what fill writes to one beside it, once that is on the
// disk. When fill fails nothing is left.
func replace(path string, fill func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
