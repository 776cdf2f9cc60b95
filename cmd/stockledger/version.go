package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the linker for releases.
var release = ""

type version struct{}

// Help implements kong.HelpProvider.
func (version) Help() string { return "Example:\n\n    stockledger version" }

// Run prints the version.
func (version) Run(io streams) error {
	_, err := fmt.Fprintf(io.out, "stockledger %s %s/%s %s\n", programVersion(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

// programVersion is that of the release, or else of the module, or else the
// commit the program was built from.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if release != "" || !ok {
		return cmp.Or(release, "unknown")
	}
	return cmp.Or(info.Main.Version, "(devel)")
}
