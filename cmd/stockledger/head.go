package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

type showHead struct {
	Sign   string    `placeholder:"KEY" help:"Sign it with the key in that file."`
	Check  givenFile `placeholder:"FILE" help:"Check first that the log still has the head in that file."`
	Key    givenFile `placeholder:"FILE" help:"With --check: the public key that the head must be signed with."`
	NewKey givenFile `placeholder:"FILE" help:"Do nothing else but make a key to sign with, and its public half in FILE.pub."`
	JSON   bool      `help:"Answer in JSON. This is what to keep, publish, or give away."`
	onLedger
}

// Help implements kong.HelpProvider.
func (showHead) Help() string {
	return `Shows the fingerprint of all events, in order. Whoever has it can tell later whether anything up to there was changed or cut off: with --check,
or without trusting this program and its server at all, with chaincheck and an exported log.

Exit status: 0 done, and with --check: the log still has that head; 1 it has not; 2 refused; 3 no answer.

Examples:

    stockledger head --json > monday.json
    stockledger head --check monday.json
    stockledger head --new-key ledger.key && stockledger head --json --sign ledger.key > monday.json
    stockledger head --check monday.json --key ledger.key.pub --data /var/lib/stockledger`
}

// Run shows the head.
func (c *showHead) Run(ctx context.Context, s streams) error {
	if c.NewKey != "" {
		return c.makeKey(s)
	}
	if c.Key != "" && c.Check == "" {
		return errors.New("--key is for a head to --check; to sign one give --sign the private half")
	}
	var key ed25519.PrivateKey
	if c.Sign != "" {
		var err error
		if key, err = evidence.ReadKey(c.Sign); err != nil {
			return fmt.Errorf("--sign: %w", err)
		}
	}
	known, err := readHead(c.Check, c.Key)
	if err != nil {
		return c.denied(s, err)
	}
	head, err := c.ask(ctx, s, known)
	if err != nil {
		return c.denied(s, err)
	}
	if key != nil {
		head = evidence.Sign(head, key)
	}
	if err := c.show(s, head); err != nil || c.JSON || known == nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "\nthe log still has the head of position %d: nothing up to there was changed or cut off\n", known.Position)
	return err
}

// makeKey makes a key to sign with.
func (c *showHead) makeKey(s streams) error {
	public, err := evidence.NewKey(string(c.NewKey))
	if err != nil {
		return fmt.Errorf("--new-key: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "key         %s: keep it to yourself\npublic key  %s.pub: give it to those who check, by another way than the heads\n            %s\n",
		c.NewKey, c.NewKey, base64.StdEncoding.EncodeToString(public))
	return err
}

// A givenFile is the name of a file on the command line. One that is empty, as of a
// shell variable that is not set, is a mistake and not the same as none: a check
// that does not take place would look like one that was passed.
type givenFile string

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *givenFile) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("it names no file")
	}
	*f = givenFile(text)
	return nil
}

// readHead reads the head in a file, nil when no file is named, and checks its
// signature where the public key is in a file.
func readHead(file, keyFile givenFile) (*evidence.Head, error) {
	if file == "" {
		return nil, nil
	}
	head, err := evidence.ReadHead(string(file))
	if err != nil || keyFile == "" {
		return &head, err
	}
	key, err := evidence.ReadPublicKey(string(keyFile))
	if err != nil {
		return nil, err
	}
	return &head, evidence.CheckSignature(head, key)
}

// ask finds the head of the log, which must have the known one.
func (c *showHead) ask(ctx context.Context, s streams, known *evidence.Head) (head evidence.Head, err error) {
	if !c.local() {
		op, err := c.operator(ctx, s)
		if err != nil {
			return head, err
		}
		defer op.Close()
		return runJob[evidence.Head](ctx, op, s, "ledger-head", object{"known": known})
	}
	return onLog(c.Data, s, func(log events.Store, tell evidence.Progress) (head evidence.Head, err error) {
		if known != nil {
			if err := evidence.Contains(ctx, log, *known, tell); err != nil {
				return head, err
			}
		}
		return evidence.HeadOf(ctx, log, filepath.Join(c.Data, "head.json"), tell)
	})
}

// openLog opens the log of a ledger that no server has open. There must be one.
func openLog(data string) (*sqlitestore.Store, error) {
	if err := hasLog(data); err != nil {
		return nil, err
	}
	log, err := sqlitestore.Open(filepath.Join(data, "log.db"))
	if errors.Is(err, events.ErrInUse) {
		return nil, fmt.Errorf("--data %s: %w; leave --data out and name the server that has it open with --server URL, or stop it", data, err)
	}
	return log, err
}

// denied is the end when the log, or the head to check, is not what it should be:
// that is no refusal of something that was asked wrongly.
func (c *showHead) denied(s streams, err error) error {
	refusal, ok := errors.AsType[*fault.Error](err)
	if c.Check == "" || !ok || refusal.Kind != fault.Conflict {
		return err
	}
	if c.JSON {
		tellRefusal(s.err, true, refusal)
	} else {
		fmt.Fprintf(s.err, "stockledger: %s\n", refusal.Message)
	}
	return errReported{exitFailed}
}

func (c *showHead) show(s streams, head evidence.Head) error {
	document, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, document)
	}
	at := "the log is empty"
	if head.Position > 0 {
		at = head.At.Format(time.RFC3339Nano)
	}
	for _, line := range []struct{ name, value string }{
		{"log", head.Log},
		{"position", fmt.Sprint(head.Position)},
		{"digest", head.Digest},
		{"recorded", at},
		{"key", head.Key},
		{"signature", head.Signature},
	} {
		if line.value != "" {
			fmt.Fprintf(s.out, "%-9s  %s\n", line.name, line.value)
		}
	}
	return nil
}
