package transport

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// HeaderKey is the header of the idempotency key.
const HeaderKey = "Idempotency-Key"

// The other headers of a command. Their case does not matter on the way in.
const (
	headerActor       = "Ledger-Actor"
	headerReason      = "Ledger-Reason"
	headerReference   = "Ledger-Reference"
	headerEffective   = "Ledger-Effective-At"
	headerCorrelation = "Ledger-Correlation-Id"
	headerCausation   = "Ledger-Causation-Id"
	headerDryRun      = "Ledger-Dry-Run"
	headerTrace       = "traceparent"
)

// Envelope reads the headers of a command. It refuses a Ledger- header it does
// not know: a misspelt Ledger-Dry-Run must not carry the command out. With an
// error it still has the key, if there is one beyond doubt.
func Envelope(headers map[string][]string) (env commands.Envelope, err error) {
	given, err := texts(headers)
	env = commands.Envelope{
		Key: given[HeaderKey], Actor: given[headerActor], Reason: given[headerReason], Reference: given[headerReference],
		Correlation: given[headerCorrelation], Causation: given[headerCausation], Trace: given[headerTrace],
	}
	if err != nil {
		return env, err
	}
	if value := given[headerDryRun]; value != "" {
		if env.DryRun, err = strconv.ParseBool(value); err != nil {
			return env, badHeader(headerDryRun, "the header %s is %q; send true or false", headerDryRun, value)
		}
	}
	if value := given[headerEffective]; value != "" {
		if env.Effective, err = time.Parse(time.RFC3339Nano, value); err != nil {
			return env, badHeader(headerEffective, "the header %s is %q; send a time as in RFC 3339, such as 2026-01-31T13:45:00Z", headerEffective, value)
		}
		if env.Effective.IsZero() { // which is how an envelope says that there is none
			return env, badHeader(headerEffective, "the header %s is %q, before which there is no time; send when it happened, or leave the header out",
				headerEffective, value)
		}
	}
	return env, nil
}

// NotDry refuses headers that ask for a dry run, or may have been meant to, of what has
// none.
func NotDry(headers map[string][]string) error {
	env, err := Envelope(headers)
	if err == nil && env.DryRun {
		err = fault.New(fault.Invalid, "no_dry_run", "an operation has no dry run; nothing was done, leave %s out", headerDryRun).
			With("header", headerDryRun)
	}
	return err
}

// texts are the headers of a command by their canonical names, and what is wrong
// with the first that is wrong. A header that says two things says nothing.
func texts(headers map[string][]string) (given map[string]string, err error) {
	given = make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		values, as := headers[name], canonical(name)
		_, again := given[as]
		switch {
		case !slices.Contains(headerNames, as):
			if strings.HasPrefix(strings.ToLower(name), "ledger-") {
				err = cmp.Or(err, badHeader(name, "the header %s is not known; a command has %s", name, strings.Join(headerNames, ", ")))
			}
		case again:
			given[as] = ""
			err = cmp.Or(err, badHeader(name, "the header %s is there twice, in different spellings; send it once", as))
		case len(values) != 1:
			given[as] = ""
			err = cmp.Or(err, badHeader(name, "the header %s has %d values, send one", name, len(values)))
		case as == HeaderKey && values[0] == "":
			err = cmp.Or(err, badHeader(name, "the header %s is empty; send a key, or leave the header out", name))
		default:
			given[as] = values[0]
		}
	}
	return given, err
}

func badHeader(name, message string, args ...any) error {
	return fault.New(fault.Invalid, "invalid_header", message, args...).With("field", name).With("header", name)
}

// headerNames are all of them.
var headerNames = []string{
	HeaderKey, headerActor, headerReason, headerReference, headerEffective,
	headerCorrelation, headerCausation, headerDryRun, headerTrace,
}

// HeaderNames are the headers of a command, as they are written.
func HeaderNames() []string { return slices.Clone(headerNames) }

// canonical is the header as we write it, or name itself.
func canonical(name string) string {
	for _, k := range headerNames {
		if len(k) == len(name) && strings.EqualFold(k, name) {
			return k
		}
	}
	return name
}

// Carries refuses a key that would be another one on the other side. The engine
// refuses the same.
func Carries(key string) error {
	if key == strings.TrimSpace(key) && !strings.ContainsFunc(key, unicode.IsControl) {
		return nil
	}
	return fault.New(fault.Invalid, "invalid_key",
		"the idempotency key %q begins or ends with a space, or has a control character, which transports would change", key).With("field", HeaderKey)
}

// Headers writes an envelope as headers.
func Headers(env commands.Envelope) map[string][]string {
	h := make(map[string][]string)
	for _, f := range []struct{ name, value string }{
		{HeaderKey, env.Key},
		{headerActor, env.Actor},
		{headerReason, env.Reason},
		{headerReference, env.Reference},
		{headerCorrelation, env.Correlation},
		{headerCausation, env.Causation},
		{headerTrace, env.Trace},
	} {
		if f.value != "" {
			h[f.name] = []string{f.value}
		}
	}
	if !env.Effective.IsZero() {
		h[headerEffective] = []string{env.Effective.Format(time.RFC3339Nano)}
	}
	if env.DryRun {
		h[headerDryRun] = []string{"true"}
	}
	return h
}
