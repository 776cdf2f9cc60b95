package esdbstore

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// What a URL may leave out.
const (
	defaultLedger  = "stockledger"
	defaultMaxSize = 1 << 20 // MaxAppendSize of servers before 25.1
	smallestSize   = 16 << 10
	largestSize    = 15 << 20 // of one gRPC message and one event, on every server
)

var ledgerName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$`)

// settings are the parameters of the client that a URL may have.
var settings = []string{
	"tls", "tlsverifycert", "tlscafile", "usercertfile", "userkeyfile", "discoveryinterval", "gossiptimeout",
	"maxdiscoverattempts", "nodepreference", "keepaliveinterval", "keepalivetimeout", "defaultdeadline",
}

// address is what a URL says.
type address struct {
	config  esdb.Configuration
	ledger  string
	maxSize int // bytes that the server takes in one append
}

// CheckURL says what is wrong with the URL of a log, without connecting. Errors
// do not repeat the credentials in it.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

// parseURL takes a URL apart. The credentials never get to the client's parser,
// whose errors repeat what they are about.
func parseURL(text string) (address, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return address{}, errors.New("the URL of an EventStoreDB log begins with esdb:// or kurrentdb://")
	}
	scheme = strings.Replace(scheme, "kurrentdb", "esdb", 1)
	if scheme != "esdb" && scheme != "esdb+discover" {
		return address{}, errors.New("the scheme of the URL is none of esdb, esdb+discover, kurrentdb, kurrentdb+discover")
	}
	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "@") { // else what is behind a ? in a password would be taken for the parameters
		return address{}, errors.New("the parameters of the URL have an @ in them: write %40 for it, and %3F for a ? in the credentials")
	}
	user, hosts := "", rest
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, hosts = rest[:at], rest[at+1:]
	}
	hosts = strings.TrimSuffix(hosts, "/")
	parameters, err := parseParameters(query)
	if err != nil {
		return address{}, err
	}
	a, err := ours(parameters)
	if err != nil {
		return address{}, err
	}
	if err := checkHosts(scheme, hosts); err != nil {
		return address{}, err
	}
	config, err := esdb.ParseConnectionString(scheme + "://" + hosts + "?" + parameters.Encode())
	if err != nil {
		return address{}, fmt.Errorf("the URL: %w", err)
	}
	if err := config.Validate(); err != nil {
		return address{}, fmt.Errorf("the URL: %w", err)
	}
	if config.Username, config.Password, err = credentials(user); err != nil {
		return address{}, err
	}
	if user != "" && config.DisableTLS {
		return address{}, errors.New("the URL has credentials and tls=false: they are sent over TLS only")
	}
	a.config = *config
	return a, nil
}

// parseParameters reads the query. The names come out in lower case.
func parseParameters(query string) (url.Values, error) {
	given, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the parameters of the URL cannot be read")
	}
	parameters := make(url.Values)
	for name, values := range given {
		lower := strings.ToLower(name)
		known := lower == "ledger" || lower == "maxappendsize" || slices.Contains(settings, lower)
		if !known || len(values) != 1 || parameters.Has(lower) {
			return nil, fmt.Errorf("the URL has a parameter %q that is unknown, or has it twice", name)
		}
		parameters.Set(lower, values[0])
	}
	return parameters, checkParameters(parameters)
}

// checkParameters refuses what the client takes and makes something else of.
func checkParameters(p url.Values) error {
	if v := p.Get("defaultdeadline"); v != "" {
		if n, err := strconv.Atoi(v); err != nil || n < 1 {
			return errors.New("defaultDeadline in the URL is not a positive number of milliseconds")
		}
	}
	if v := p.Get("keepaliveinterval"); v != "" {
		if n, err := strconv.Atoi(v); err != nil || n != -1 && n < 10_000 {
			return errors.New("keepAliveInterval in the URL is neither -1 nor 10000 milliseconds or more")
		}
	}
	if v := strings.ToLower(p.Get("nodepreference")); v != "" && v != "leader" {
		return errors.New("nodePreference in the URL: the log is read and written on the leader only")
	}
	return nil
}

// ours takes the parameters out that are not the client's.
func ours(p url.Values) (address, error) {
	a := address{ledger: defaultLedger, maxSize: defaultMaxSize}
	if p.Has("ledger") {
		a.ledger = p.Get("ledger")
	}
	if !ledgerName.MatchString(a.ledger) {
		return address{}, fmt.Errorf("ledger=%q in the URL is not made of letters, digits, hyphens and underscores", a.ledger)
	}
	if p.Has("maxappendsize") {
		n, err := strconv.Atoi(p.Get("maxappendsize"))
		if err != nil || n < smallestSize {
			return address{}, fmt.Errorf("maxAppendSize in the URL is not a number of bytes, %d or more", smallestSize)
		}
		a.maxSize = n
	}
	a.maxSize = min(a.maxSize, largestSize)
	p.Del("ledger")
	p.Del("maxappendsize")
	return a, nil
}

// checkHosts refuses what the client cannot dial.
func checkHosts(scheme, hosts string) error {
	if hosts == "" || strings.ContainsAny(hosts, "/#") {
		return errors.New("the URL has no host, or a path after it")
	}
	if scheme == "esdb+discover" && strings.Contains(hosts, ",") {
		return errors.New("the URL has several hosts to discover: write esdb:// for them, or name one DNS name")
	}
	return nil
}

func credentials(user string) (name, password string, err error) {
	name, password, _ = strings.Cut(user, ":")
	name, nameErr := url.PathUnescape(name)
	password, passwordErr := url.PathUnescape(password)
	if nameErr != nil || passwordErr != nil || (name == "") != (user == "") {
		return "", "", errors.New("the credentials in the URL cannot be read")
	}
	return name, password, nil
}
