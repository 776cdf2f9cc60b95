package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a user is told to paste runs the program that told him, and has no secret.
func TestALineToPasteWorksAsItIs(t *testing.T) {
	for name, want := range map[string]string{
		"stockledger":                                  "stockledger status",
		"./stockledger":                                "./stockledger status",
		"/usr/local/bin/stockledger":                   "/usr/local/bin/stockledger status",
		"/tmp/go-build641834/b001/exe/x":               "go run ./cmd/stockledger status",
		"/root/.cache/go-build/da/da66-d/x":            "go run ./cmd/stockledger status",
		"/c/da/" + strings.Repeat("da66", 16) + "-d/x": "go run ./cmd/stockledger status",
	} {
		config := &settings{program: invocation(name)}
		require.Equal(t, want, config.line("status"))
	}
	config := &settings{program: []string{"stockledger"}}
	require.Equal(t, "stockledger status --server nats://xxxxx@a", config.line("status", "--server", "nats://s3cr3t@a"))
	require.Equal(t, "stockledger status --token xxxxx", config.line("status", "--token", "s3cr3t"))
	require.Equal(t, "stockledger status --token=xxxxx", config.line("status", "--token=s3cr3t"))
	require.Equal(t, "stockledger status --server=nats://xxxxx@a", config.line("status", "--server=nats://s3cr3t@a"))
}
