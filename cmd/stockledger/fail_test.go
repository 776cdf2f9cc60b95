package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
)

// Nothing in a refusal moves the cursor, though it names what somebody else called an item.
func TestARefusalIsShownAsText(t *testing.T) {
	var told strings.Builder
	err := fault.New(fault.NotAllowed, "sku_taken", "sku: %s, already exists", "\x1b[2JRED\r").With("sku", "\x1b[2JRED\r")
	require.Equal(t, exitRefused, report(&told, false, err))
	require.NotContains(t, told.String(), "\x1b")
	require.NotContains(t, told.String(), "\r")
	require.Contains(t, told.String(), "[2JRED")
}
