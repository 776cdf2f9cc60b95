package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// settings are where flags that were not given are looked up: the environment,
// then the configuration file. A flag that takes part has the tag setting with
// the name of its variable; in the file it has its own name.
//
// What is wrong is collected, so that the user hears of all of it at once.
type settings struct {
	getenv        func(string) string
	program, args []string // of the command line, to tell how to run it again

	read     bool
	file     map[string]json.RawMessage
	mistakes []error
}

// Validate implements kong.Resolver.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (s *settings) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !s.read {
		s.read = true
		s.readFile(ctx)
	}
	variable := flag.Tag.Get("setting")
	if variable == "" {
		return nil, nil
	}
	if value := s.getenv(variable); value != "" {
		return s.checked(flag, value, variable), nil
	}
	raw, found := s.file[flag.Name]
	if !found {
		return nil, nil
	}
	return s.checked(flag, unquoted(raw), fmt.Sprintf("%q in the configuration file", flag.Name)), nil
}

// checked is value, or nil and a mistake when it is none for the flag.
func (s *settings) checked(flag *kong.Flag, value, from string) any {
	switch {
	case !flag.IsBool():
		return value
	case value == "true" || value == "1":
		return true
	case value == "false" || value == "0":
		return false
	}
	s.mistakes = append(s.mistakes, fmt.Errorf("%s is %q; it must be true or false", from, value))
	return nil
}

// unquoted is a JSON string, number or boolean as text.
func unquoted(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// readFile reads the configuration file, if one is named and the subcommand has any.
func (s *settings) readFile(ctx *kong.Context) {
	path, names := "", []string{}
	for _, flag := range ctx.Flags() {
		if flag.Name == "config" {
			given, _ := ctx.FlagValue(flag).(string)
			path = cmp.Or(given, s.getenv(flag.Tag.Get("setting")))
		} else if flag.Tag.Get("setting") != "" {
			names = append(names, flag.Name)
		}
	}
	if path == "" {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		s.mistakes = append(s.mistakes, fmt.Errorf("configuration file: %w", err))
		return
	}
	s.parse(path, text, names)
}

func (s *settings) parse(path string, text []byte, names []string) {
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&s.file); err != nil {
		s.mistakes = append(s.mistakes, fmt.Errorf("configuration file %s is not a JSON object: %w", path, err))
		return
	}
	slices.Sort(names)
	for name, value := range s.file {
		switch {
		case !slices.Contains(names, name):
			s.mistakes = append(s.mistakes, fmt.Errorf("configuration file %s: there is no setting %q; there are %s",
				path, name, strings.Join(names, ", ")))
		case value[0] == '{' || value[0] == '[' || value[0] == 'n':
			s.mistakes = append(s.mistakes, fmt.Errorf("configuration file %s: %q must be a text, a number or a boolean", path, name))
			delete(s.file, name)
		}
	}
	slices.SortFunc(s.mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}

// valueHelp is the help of a flag, with the variable that also sets it.
func valueHelp(value *kong.Value) string {
	variable := value.Tag.Get("setting")
	if variable == "" {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " ($" + variable + ")."
}
