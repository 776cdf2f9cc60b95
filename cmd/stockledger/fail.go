package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/internal/fault"
)

// What the process tells the shell. Scripts rely on these.
const (
	exitDone        = 0
	exitFailed      = 1 // used wrongly, or something broke
	exitRefused     = 2 // the ledger said no; saying it again will not help
	exitUnavailable = 3 // no answer; it may have been done, and can be tried again with the same key
)

// errReported ends a subcommand that has told everything itself.
type errReported struct{ code int }

func (e errReported) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// report tells the user about err and returns the exit status.
func report(w io.Writer, asJSON bool, err error) int {
	if err == nil {
		return exitDone
	}
	if told, ok := errors.AsType[errReported](err); ok {
		return told.code
	}
	if refusal, ok := errors.AsType[*fault.Error](err); ok {
		tellRefusal(w, asJSON, refusal)
	} else {
		fmt.Fprintf(w, "stockledger: %v\n", err)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	refusal, ok := errors.AsType[*fault.Error](err)
	switch {
	case !ok || refusal.Kind == fault.Internal || refusal.Kind == fault.Unauthorized:
		return exitFailed
	case refusal.Kind == fault.Unavailable:
		return exitUnavailable
	default:
		return exitRefused
	}
}

// tellRefusal writes what the ledger said: the sentence, then the code and the
// details line by line; or all of it as one line of JSON.
func tellRefusal(w io.Writer, asJSON bool, e *fault.Error) {
	if asJSON {
		answer := fault.Answer{Code: e.Code, Type: e.Kind.String(), Message: e.Message, Details: e.Details}
		_ = json.NewEncoder(w).Encode(answer)
		return
	}
	verdict := "refused"
	switch e.Kind {
	case fault.Unavailable:
		verdict = "no answer"
	case fault.Internal:
		verdict = "failed"
	}
	fmt.Fprintf(w, "stockledger: %s: %s\n", verdict, cell(e.Message))
	fmt.Fprintf(w, "  code: %s (%s)\n", e.Code, e.Kind)
	for _, line := range details(e) {
		fmt.Fprintf(w, "  %s\n", line)
	}
}

// details are the details of a refusal, "name: value", sorted.
func details(e *fault.Error) []string {
	lines := make([]string, 0, len(e.Details))
	for name, value := range e.Details {
		text, err := json.Marshal(value)
		if err != nil {
			text = []byte(fmt.Sprint(value))
		}
		lines = append(lines, name+": "+strings.Trim(string(text), `"`))
	}
	slices.Sort(lines)
	return lines
}

// mistakes are several errors in one, each on a line of its own.
func mistakes(what string, all []error) error {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes in %s:", len(all), what)
	for _, err := range all {
		fmt.Fprintf(&b, "\n  - %v", err)
	}
	return errors.New(b.String())
}
