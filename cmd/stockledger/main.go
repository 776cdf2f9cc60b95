// Command stockledger runs the inventory ledger, and talks to one that runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second ^C ends the program at once, unless it is the first one heard twice,
	// as happens under go run, timeout and the like.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	code := run(ctx, os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is the command line. Every subcommand is in the file of its name.
type program struct {
	Help helpFlag `short:"h" help:"Show what it does, its flags and an example."`

	Serve   serve       `cmd:"" help:"Run the ledger."`
	Demo    demo        `cmd:"" help:"Run a ledger with a small shop in it, and show around."`
	Cmd     sendCommand `cmd:"" help:"Send one command."`
	Get     get         `cmd:"" help:"List items, levels, reservations, links, variants, locations, commands or refusals."`
	History history     `cmd:"" help:"Show what moved: of an item, a location, an actor, a document and more."`
	AsOf    asOf        `cmd:"" help:"Show what was in stock at an earlier time."`
	Explain explain     `cmd:"" help:"Show the events that make a quantity, and check them."`
	Status  status      `cmd:"" help:"Show how the ledger and its read models are doing."`

	Rebuild     rebuild      `cmd:"" help:"Build read models anew beside the served ones."`
	Diff        diff         `cmd:"" help:"Compare what was rebuilt with what is served, row by row."`
	Switch      switchModels `cmd:"" help:"Serve what was rebuilt, or what was served before."`
	Verify      verify       `cmd:"" help:"Check the whole log, and every row that is served against it."`
	Generations generations  `cmd:"" help:"List what was built of the read models, and delete what is not served."`

	Backup  backupCommand  `cmd:"" help:"Copy a ledger while it runs, and verify the copy."`
	Restore restoreCommand `cmd:"" help:"Make a ledger of a backup, and verify it."`

	Head      showHead  `cmd:"" help:"Show the fingerprint of the whole log, sign it, or check that the log still has an earlier one."`
	Export    exportLog `cmd:"" help:"Write the whole log to a file that anybody can check."`
	ImportLog importLog `cmd:"" help:"Make a ledger of an exported log."`
	CopyLog   copyLog   `cmd:"" help:"Move a ledger to another event store."`

	Bench benchCommand `cmd:"" help:"Measure a ledger beside a plain file, a NATS echo and PostgreSQL."`
	Chaos chaosCommand `cmd:"" help:"Kill a ledger under load, again and again, and see that nothing is lost."`

	ChaosServer chaosServer `cmd:"" hidden:""`
	ChaosChild  chaosChild  `cmd:"" hidden:""`

	Import  importFile `cmd:"" help:"Import items or adjustments from a CSV file, each row exactly once."`
	Version version    `cmd:"" help:"Show the version."`
}

// about ends the help of the program as a whole.
const about = `An inventory ledger: commands come in over NATS or HTTP, every accepted one is recorded for ever, and every quantity can be explained.

Exit status: 0 done; 1 used wrongly, or failed; 2 refused by the ledger; 3 no answer, so the command may or may not be carried out.

Start here: stockledger demo`

// streams are where a subcommand reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program, whose name is the first argument: it parses, runs the subcommand, and tells how that went.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	var p program
	config := &settings{getenv: getenv, program: invocation(args[0]), args: args[1:]}
	args = args[1:]
	out := &output{to: stdout}
	io := streams{stdin, out, stderr}
	parser, err := kong.New(&p,
		kong.Name("stockledger"), kong.Description(about),
		kong.NoDefaultHelp(), kong.Writers(stdout, stderr), kong.ValueFormatter(valueHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Resolvers(config), kong.Bind(config, io), kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		panic(err) // a mistake in the tags above
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	chosen, err := parser.Parse(args)
	switch {
	case errors.Is(err, errHelpShown):
		return exitDone
	case err != nil:
		fmt.Fprintf(stderr, "stockledger: %v\n", misread(err))
		return exitFailed
	}
	switch err = chosen.Run(); {
	case err == nil:
		err = out.lost()
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = fmt.Errorf("interrupted before it was done: %w", err)
	}
	return report(stderr, wantsJSON(chosen), err)
}

// misread says where help is beside what the parser did not understand.
func misread(err error) error {
	name := "stockledger"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil && parse.Context.Selected() != nil {
		name = parse.Context.Selected().FullPath()
	}
	return fmt.Errorf("%w\nsee: %s --help", err, name)
}

// wantsJSON reports whether the subcommand was asked for JSON.
func wantsJSON(chosen *kong.Context) bool {
	for _, flag := range chosen.Flags() {
		if flag.Name == "json" {
			asked, _ := chosen.FlagValue(flag).(bool)
			return asked
		}
	}
	return false
}

// helpFlag prints the help and ends the parsing. Kong's own exits the process.
type helpFlag bool

var errHelpShown = errors.New("help was shown")

// BeforeReset implements kong's hook of that name.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelpShown
}

// IgnoreDefault makes kong show the help of a command that has a default.
func (helpFlag) IgnoreDefault() {}
