package natsstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

const (
	defaultLedger = "stockledger"
	defaultPort   = "4222"
	maxReplicas   = 5 // of a JetStream stream
)

// validLedger is what a ledger may be called: one token of a subject, and a part
// of the name of a stream and of a bucket.
var validLedger = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// place is what a store's URL says.
type place struct {
	servers  string // plain URLs with commas, each with the secrets
	shown    string // the same without them, for errors and logs
	user     *url.Userinfo
	ledger   string
	replicas int // 0: not said
}

// CheckURL says what is wrong with the URL of a store, without connecting. It
// does not repeat secrets.
func CheckURL(text string) error {
	_, err := parse(text)
	return err
}

// Servers takes out of the URL of a store what NATS clients connect to, and how
// many replicas the log has, 0 if the URL does not say. Its errors repeat no
// secrets.
func Servers(text string) (servers string, replicas int, err error) {
	at, err := parse(text)
	return at.servers, at.replicas, err
}

// parse reads SCHEME://[USER:PASSWORD@]HOST[:PORT][,HOST…][/LEDGER][?replicas=N].
// What a server says of user and password holds for those that say nothing.
func parse(text string) (place, error) {
	wrong := func(what string, arguments ...any) (place, error) {
		return place{}, fmt.Errorf("the URL of the log cannot be used: "+what+
			"; write nats://USER:PASSWORD@HOST:PORT,HOST:PORT/LEDGER?replicas=3, or tls://…, "+
			"and in user and password every character but letters and digits as %%XX", arguments...)
	}
	rest, query, _ := strings.Cut(text, "?")
	scheme, _, found := strings.Cut(rest, "://")
	if !found || scheme != "nats" && scheme != "tls" {
		return wrong("it does not begin with nats:// or tls://")
	}
	at := place{ledger: defaultLedger}
	var servers []*url.URL
	parts := strings.Split(rest, ",")
	for i, part := range parts {
		server, path, err := parseServer(scheme, part)
		switch {
		case err != nil:
			return wrong("server %d of %d: %w", i+1, len(parts), err)
		case path != "" && i < len(parts)-1:
			return wrong("something follows server %d that is not a comma and another server", i+1)
		case path != "" && !validLedger.MatchString(path):
			return wrong("the name of the ledger is 1 to 64 letters, digits, hyphens and underscores")
		case server.User != nil && i > 0 && at.user == nil:
			return wrong("server %d has user and password and the first has none", i+1)
		}
		if at.user == nil {
			at.user = server.User
		}
		if path != "" {
			at.ledger = path
		}
		servers = append(servers, server)
	}
	var err error
	if at.replicas, err = parseParameters(query); err != nil {
		return wrong("%w", err)
	}
	at.list(servers)
	return at, nil
}

// parseServer reads one server, and what follows it after a slash. Its errors
// are texts of our own: those of net/url repeat what they could not read.
func parseServer(scheme, text string) (server *url.URL, path string, err error) {
	own, address, found := strings.Cut(text, "://")
	if !found {
		own, address = scheme, text
	}
	if own != scheme {
		return nil, "", errors.New("it has another scheme than the first")
	}
	u, err := url.Parse(own + "://" + address)
	if err != nil {
		return nil, "", errors.New("it cannot be read")
	}
	if u.Hostname() == "" || strings.Contains(u.Host+u.Path, "@") {
		return nil, "", errors.New("it has no host")
	}
	if u.Fragment != "" || strings.ContainsAny(u.Hostname(), " \t") {
		return nil, "", errors.New("it cannot be read")
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, "", errors.New("its port is not a number from 1 to 65535")
	}
	return &url.URL{Scheme: own, User: u.User, Host: net.JoinHostPort(u.Hostname(), port)}, strings.TrimPrefix(u.Path, "/"), nil
}

func parseParameters(query string) (replicas int, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, errors.New("its parameters cannot be read")
	}
	for name, given := range values {
		if name != "replicas" {
			return 0, fmt.Errorf("it has a parameter %q, and there is replicas only", name)
		}
		if replicas, err = strconv.Atoi(given[0]); err != nil || replicas < 1 || replicas > maxReplicas || len(given) > 1 {
			return 0, fmt.Errorf("replicas is one number from 1 to %d", maxReplicas)
		}
	}
	return replicas, nil
}

// list writes the servers down, each with the user and password it is sent.
func (p *place) list(servers []*url.URL) {
	var full, shown []string
	for _, server := range servers {
		if server.User == nil {
			server.User = p.user
		}
		full = append(full, server.String())
		shown = append(shown, server.Scheme+"://"+server.Host)
	}
	p.servers, p.shown = strings.Join(full, ","), strings.Join(shown, ",")
}
