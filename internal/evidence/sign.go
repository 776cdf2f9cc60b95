package evidence

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stockledger/stockledger/internal/fault"
)

// Sign is the head with a signature of key. Whoever holds the public half, got on
// another way than the head, knows by it who vouches for the head.
func Sign(h Head, key ed25519.PrivateKey) Head {
	public := key.Public().(ed25519.PublicKey) // as its documentation says
	h.Key = base64.StdEncoding.EncodeToString(public)
	h.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(key, h.signed()))
	return h
}

// signed is the text that a signature is of.
func (h Head) signed() []byte {
	at := ""
	if !h.At.IsZero() {
		at = h.At.Format(time.RFC3339Nano)
	}
	return fmt.Appendf(nil, "stockledger head v1\n%s\n%d\n%s\n%s\n", h.Log, h.Position, h.Digest, at)
}

// CheckSignature checks that the head was signed with the private half of public.
func CheckSignature(h Head, public ed25519.PublicKey) error {
	if h.Signature == "" {
		return fault.New(fault.Conflict, "head_not_signed", "nobody signed this head")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(h.Key)
	if err != nil || !bytes.Equal(key, public) {
		return fault.New(fault.Conflict, "signed_by_other_key", "this head says that it was signed with the key %s, which is another one", h.Key)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(h.Signature)
	if err != nil || !ed25519.Verify(public, h.signed(), signature) {
		return fault.New(fault.Conflict, "signature_wrong", "the signature of this head is wrong: it, or the head, was changed")
	}
	return nil
}

// NewKey makes a key to sign heads with in the file at path, which only its owner
// may read, and its public half in path+".pub". It replaces no file.
func NewKey(path string) (ed25519.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	err = create(path, base64.StdEncoding.EncodeToString(private.Seed())+"\n", 0o600)
	if err == nil {
		if err = create(path+".pub", base64.StdEncoding.EncodeToString(public)+"\n", 0o644); err != nil {
			err = errors.Join(err, os.Remove(path)) // half a pair is none
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return public, nil
}

// create writes a file that must not be there yet.
func create(path, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode) //nolint:gosec // G304: the user names it
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadKey reads a key that [NewKey] made. It refuses a file that others than its
// owner may read: who has the key can sign what never happened.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	seed, err := read32(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %s: others may read it; make it private with chmod 600, or make a new key if they may have done so", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ReadPublicKey reads the public half that [NewKey] made.
func ReadPublicKey(path string) (ed25519.PublicKey, error) { return read32(path) }

// ReadHead reads a head from a file, as `stockledger head --json` writes it. It
// does not check the signature.
func ReadHead(path string) (Head, error) {
	text, err := os.ReadFile(path) //nolint:gosec // G304: the user names it
	if err != nil {
		return Head{}, err
	}
	var h Head
	if err := json.Unmarshal(text, &h, json.RejectUnknownMembers(true)); err != nil || h.Log == "" || h.Digest == "" {
		return Head{}, fmt.Errorf("head %s: it must be what `stockledger head --json` writes: %w", path, cmp.Or(err, errors.New("members are missing")))
	}
	return h, nil
}

// read32 reads 32 bytes that are in a file in base64.
func read32(path string) ([]byte, error) {
	text, err := os.ReadFile(path) //nolint:gosec // G304: the user names it
	if err != nil {
		return nil, err
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(decoded) != 32 {
		return nil, fmt.Errorf("key %s: it must hold 32 bytes in base64, as `stockledger head --new-key FILE` makes them", path)
	}
	return decoded, nil
}
