package httpapi

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// secretIn is what a URL has between its scheme and its host.
var secretIn = regexp.MustCompile(`(?s)^([A-Za-z][A-Za-z0-9+.-]*://)?.*@`)

// Redacted is a URL without the secret in it. Of what is no URL nothing is left
// that could be one.
func Redacted(text string) string {
	shown := secretIn.ReplaceAllString(text, "${1}xxxxx@")
	if _, err := url.Parse(shown); err != nil {
		return "xxxxx"
	}
	return shown
}

// IsURL reports whether a URL is for this package, and not for NATS.
func IsURL(text string) bool { return isHTTP.MatchString(text) }

var isHTTP = regexp.MustCompile(`(?i)^https?://`)

// parseURL takes a URL of a ledger apart: where it is, and the token in front of
// the host, as the user or as the password of one. The secret is not in the errors.
func parseURL(text string) (at *url.URL, token string, err error) {
	unreadable := fmt.Errorf("the server URL %s cannot be read: write http://HOST:PORT, and a token with an @ before the host; "+
		"in it, letters and digits aside, write characters as %%XX", Redacted(text))
	at, err = url.Parse(text)
	// With an @ behind it, what looks like the host is the beginning of a token.
	if err != nil || at.Host == "" || !IsURL(text) || strings.Contains(at.EscapedPath(), "@") {
		return nil, "", unreadable
	}
	if at.RawQuery != "" || at.Fragment != "" {
		return nil, "", errors.New("the server URL has a ? or a # in it; write http://HOST:PORT")
	}
	if at.User != nil {
		token = at.User.Username()
		if password, given := at.User.Password(); given && password != "" {
			token = password
		}
	}
	at.User = nil
	return at, token, nil
}
