package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/internal/fault"
)

// identify finds out who shows the token in a request, and makes
// sure that he may use a route of that scope. He is the actor of what he has
// carried out, unless the request says who is.
func (s *Server) identify(r *http.Request, scope Scope) error {
	if scope == "" || len(s.tokens) == 0 {
		return nil
	}
	token := s.find(shown(r))
	if token == nil {
		return fault.New(fault.Unauthorized, "unauthorized",
			"this ledger wants a token, and was not shown the right one; send it as Authorization: Bearer TOKEN")
	}
	if !slices.Contains(token.Scopes, scope) {
		return fault.New(fault.Forbidden, "missing_scope", "the token of %s has not the scope %s, which this needs", token.Name, scope).
			With("scope", string(scope))
	}
	if actor := r.Header["Ledger-Actor"]; len(actor) == 0 || len(actor) == 1 && actor[0] == "" {
		r.Header["Ledger-Actor"] = []string{token.Name}
	}
	return nil
}

// find is the token with that text. It takes as long whichever it is.
func (s *Server) find(text string) *Token {
	if text == "" {
		return nil
	}
	digest := sha256.Sum256([]byte(text))
	var found *Token
	for i := range s.tokens {
		if subtle.ConstantTimeCompare(digest[:], s.tokens[i].digest[:]) == 1 {
			found = &s.tokens[i]
		}
	}
	return found
}

// shown is the token in a request: a bearer token; or the user of a basic
// authorization without a password, as Medusa's client sends an API key, or its
// password, as curl --user name:token does; or the header of Medusa's first
// version.
func shown(r *http.Request) string {
	if user, password, basic := r.BasicAuth(); basic {
		if password != "" {
			return password
		}
		return user
	}
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return r.Header.Get("X-Medusa-Access-Token")
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// foreign refuses what a page of another origin makes a browser send. It matters
// most where no token is needed: there, whoever can send a request may do all,
// and every page the user looks at can, by a name of its own that leads to this
// machine, too.
func (s *Server) foreign(origin *http.CrossOriginProtection, r *http.Request) error {
	if len(s.tokens) == 0 && !s.own(r.Host) {
		return fault.New(fault.Forbidden, "foreign_host",
			"the request is for another host; without tokens this ledger answers as %s and to the names of this machine alone", s.url)
	}
	asPost := r.WithContext(r.Context()) // reading is no better, and would pass
	asPost.Method = http.MethodPost
	if err := origin.Check(asPost); err != nil {
		return fault.New(fault.Forbidden, "foreign_origin", "the request comes from a page of another origin (%v)", err)
	}
	return nil
}

// own reports whether a Host header names this machine. Browsers always send one.
func (s *Server) own(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]")
	}
	return host == "" || isLoopback(strings.ToLower(host))
}
