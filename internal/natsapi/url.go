package natsapi

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/internal/fault"
)

// beforeHost is what a URL has before its host: a scheme, which may be left out,
// and a secret.
var beforeHost = regexp.MustCompile(`(?s)^([A-Za-z][A-Za-z0-9+.-]*://)?.*@`)

// Redacted is a URL, or a list of them with commas, without the secrets in it. Of
// what is no URL nothing is left that could be one.
func Redacted(urls string) string {
	shown := strings.Split(urls, ",")
	for i, one := range shown {
		if shown[i] = beforeHost.ReplaceAllString(strings.TrimSpace(one), "${1}xxxxx@"); parse(shown[i]) != nil {
			shown[i] = "xxxxx"
		}
	}
	return strings.Join(shown, ",")
}

// CheckURL says what is wrong with a URL of a NATS server, or with one in a list
// with commas. It does not repeat secrets, which the errors of net/url do.
func CheckURL(urls string) error {
	for one := range strings.SplitSeq(urls, ",") {
		if parse(strings.TrimSpace(one)) != nil {
			return fmt.Errorf("the server URL %s cannot be read: write nats://HOST:PORT, and a token or USER:PASSWORD with an @ before the host; "+
				"in these, letters and digits aside, write characters as %%XX", Redacted(one))
		}
	}
	return nil
}

// parse reads a URL as NATS does. What has an @ behind what looks like the host,
// which would be looked up, has a secret with a / or such in it.
func parse(text string) error {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	at, err := url.Parse(text)
	if err == nil && strings.Contains(at.EscapedPath()+at.RawQuery+at.EscapedFragment(), "@") {
		return errors.New("an @ behind the host")
	}
	return err
}

// Connect connects to the NATS server at one of the URLs. There are no secrets in
// its errors; fault.Unauthorized is that the server wants others.
func Connect(urls string, options ...nats.Option) (*nats.Conn, error) {
	if err := CheckURL(urls); err != nil {
		return nil, err
	}
	conn, err := nats.Connect(urls, options...)
	if errors.Is(err, nats.ErrAuthorization) {
		shown := Redacted(urls)
		return nil, fault.New(fault.Unauthorized, "unauthorized",
			"the NATS server at %s wants a token, or a user and a password, and was not shown the right one; "+
				"write it into the URL: nats://TOKEN@HOST:PORT or nats://USER:PASSWORD@HOST:PORT", shown).With("server", shown)
	}
	return conn, err
}
