package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// minToken is how many characters a token has at least. What can be tried out
// over the network must not be a word.
const minToken = 16

// maxTokenFile bounds a file of tokens, in bytes.
const maxTokenFile = 1 << 20

// Scopes are all there are.
func Scopes() []Scope { return []Scope{Command, Query, Operate} }

// A Token lets its holder use the routes of its scopes. Only its digest is kept,
// so that it cannot get into a log.
type Token struct {
	Name   string // of the holder; commands have it as their actor
	Scopes []Scope
	digest [sha256.Size]byte
}

// NewToken makes a token of its text. The text is not in the errors.
func NewToken(name, text string, scopes ...Scope) (Token, error) {
	if len(text) < minToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return Token{}, fmt.Errorf("the token of %s must have at least %d characters, and be made of printable ASCII "+
			"without spaces and colons; `openssl rand -hex 32` makes one", name, minToken)
	}
	return Token{Name: name, Scopes: scopes, digest: sha256.Sum256([]byte(text))}, nil
}

// checkTokens says what is wrong with tokens as a whole.
func checkTokens(tokens []Token) error {
	names := make(map[string]bool)
	digests := make(map[[sha256.Size]byte]string)
	for _, t := range tokens {
		other, taken := digests[t.digest]
		switch {
		case t.Name == "" || len(t.Name) > 255 || strings.TrimSpace(t.Name) != t.Name:
			return fmt.Errorf("token %q: give it a name of at most 255 bytes, without spaces around it", t.Name)
		case names[t.Name]:
			return fmt.Errorf("token %s: there are two of that name", t.Name)
		case taken:
			return fmt.Errorf("tokens %s and %s are the same", other, t.Name)
		case len(t.Scopes) == 0:
			return fmt.Errorf("token %s: give it scopes, of %v", t.Name, Scopes())
		}
		for _, scope := range t.Scopes {
			if !slices.Contains(Scopes(), scope) {
				return fmt.Errorf("token %s: there is no scope %q; there are %v", t.Name, scope, Scopes())
			}
		}
		names[t.Name], digests[t.digest] = true, t.Name
	}
	return nil
}

// ReadTokens reads a file of tokens: a JSON array of
//
//	{"name": "till-7", "token_sha256": "…", "scopes": ["command", "query"]}
//
// with the SHA-256 of the token in hexadecimal, or the token itself as "token".
// Nobody but its owner may write the file, nor read it if there are tokens in
// it. Its contents are not in the errors.
func ReadTokens(path string) ([]Token, error) {
	text, mode, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Name   string  `json:"name"`
		SHA256 string  `json:"token_sha256"`
		Token  string  `json:"token"`
		Scopes []Scope `json:"scopes"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entries); err != nil || len(entries) == 0 {
		return nil, fmt.Errorf(`%s is no file of tokens; write [{"name": "…", "token_sha256": "…", "scopes": ["command", "query", "operate"]}]`, path)
	}
	var tokens []Token
	for i, e := range entries {
		if (e.Token == "") == (e.SHA256 == "") {
			return nil, fmt.Errorf("%s: entry %d needs a token or a token_sha256, and not both", path, i+1)
		}
		if e.Token != "" && mode.Perm()&0o044 != 0 {
			return nil, fmt.Errorf("%s holds tokens and others may read it; run chmod 600 on it, or write token_sha256", path)
		}
		t, err := tokenOf(e.Name, e.Token, e.SHA256, e.Scopes)
		if err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", path, i+1, err)
		}
		tokens = append(tokens, t)
	}
	if err := checkTokens(tokens); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tokens, nil
}

func tokenOf(name, text, digest string, scopes []Scope) (Token, error) {
	if text != "" {
		return NewToken(name, text, scopes...)
	}
	t := Token{Name: name, Scopes: scopes}
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != len(t.digest) {
		return Token{}, errors.New("token_sha256 must be 64 hexadecimal digits, as in `printf %s TOKEN | sha256sum`")
	}
	copy(t.digest[:], sum)
	return t, nil
}

// readSmall reads a file that only its owner may write.
func readSmall(path string) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, fmt.Errorf("file of tokens: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, 0, fmt.Errorf("others may write to %s, and so let themselves in; run chmod 600 on it", path)
	}
	if !info.Mode().IsRegular() || info.Size() > maxTokenFile {
		return nil, 0, fmt.Errorf("%s is no file of tokens: it must be a file of at most %d bytes", path, maxTokenFile)
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, 0, fmt.Errorf("file of tokens: %w", err)
	}
	return text, info.Mode(), nil
}
