// Command chaincheck checks an exported log of a stockledger, and shares no code
// with it: anybody can read it in ten minutes, or write another one from
// docs/evidence.md. Its exit status is 0 if all is right, and 1 if not.
package main

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
)

const usage = `usage: chaincheck [--head FILE [--key FILE]] EXPORT|-
Checks that every event of an exported log is at its place, matches its hash and continues its stream; with
--head, that nothing was changed or cut off since that head was taken; with --key, who signed that head`

func main() {
	facts, err := run(os.Args[1:], os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaincheck:", err)
		os.Exit(1)
	}
	fmt.Println(facts)
}

func run(args []string, in io.Reader) (facts string, err error) {
	flags := flag.NewFlagSet("chaincheck", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	headFile, keyFile := flags.String("head", "", ""), flags.String("key", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *keyFile != "" && *headFile == "" || slices.Contains(args, "") {
		return "", errors.New(usage)
	}
	var known *head
	if *headFile != "" {
		if known, err = readHead(*headFile, *keyFile); err != nil {
			return "", fmt.Errorf("head %s: %w", *headFile, err)
		}
		facts = fmt.Sprintf("; it contains the head of position %d", known.Position)
	}
	if *keyFile != "" {
		facts += ", signed with " + known.Key
	}
	if name := flags.Arg(0); name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in = file
	}
	l, err := check(in, known)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok: log %s: events %d, commits %d, streams %d, digest %s%s",
		l.Log, l.Position, l.commits, len(l.streams), l.Digest, facts), nil
}

// readHead reads a head, and checks its signature where the key is known.
func readHead(file, keyFile string) (*head, error) {
	h := new(head)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, h); err != nil || keyFile == "" {
		return h, err
	}
	public, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	public = bytes.TrimSpace(public)
	key, keyErr := base64.StdEncoding.DecodeString(string(public))
	signature, err := base64.StdEncoding.DecodeString(h.Signature)
	signed := fmt.Sprintf("stockledger head v1\n%s\n%d\n%s\n%s\n", h.Log, h.Position, h.Digest, h.At)
	if cmp.Or(keyErr, err) != nil || len(key) != ed25519.PublicKeySize || h.Key != string(public) ||
		!ed25519.Verify(key, []byte(signed), signature) {
		return nil, fmt.Errorf("it was not signed with the private half of %s", public)
	}
	return h, nil
}
