package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/natsapi"
)

type sendCommand struct {
	Name string `arg:"" optional:"" help:"The command, such as adjust-inventory-levels; --list has them all."`
	Body string `arg:"" optional:"" help:"Its body in JSON, or - to read it from the standard input."`

	List           bool     `help:"List the commands instead."`
	IdempotencyKey givenKey `placeholder:"KEY" help:"A command is carried out once for each key, however often it is sent. Made when left out."`
	Actor          string   `help:"Who asks."`
	Reason         string   `help:"Why."`
	Reference      string   `placeholder:"URI" help:"The document it rests on."`
	EffectiveAt    string   `placeholder:"TIME" help:"When it happened, if that was before now: 2006-01-02T15:04:05Z, 2006-01-02, yesterday 17:30, 2h ago; what has no zone is in that of this machine."`
	CorrelationID  string   `placeholder:"ID" help:"The business process it belongs to."`
	DryRun         bool     `help:"Only say what would happen: same answer, same refusal, nothing recorded."`
	Submit         bool     `help:"Store it in the durable queue, and do not wait until it is carried out."`
	JSON           bool     `help:"Answer in JSON."`
	reach
}

// A givenKey is an idempotency key on the command line. One that is empty, as of a
// shell variable that is not set, is a mistake and not the same as none: another one
// would be made at each try, and the command would count as often as it is sent.
type givenKey string

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *givenKey) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("it is empty, as is a variable that is not set; give a key, or leave the flag out")
	}
	*k = givenKey(text)
	return nil
}

// Help implements kong.HelpProvider.
func (sendCommand) Help() string {
	return `Exit status: 0 carried out; 2 refused, with the reason on the standard error; 3 no answer, so send it again with the same
--idempotency-key to find out; 1 anything else.

Examples:

    stockledger cmd --list
    stockledger cmd create-inventory-items '{"id":"mug","sku":"MUG-1","location_levels":[{"location_id":"paris","stocked_quantity":10}]}'
    stockledger cmd adjust-inventory-levels '{"inventory_item_id":"mug","location_id":"paris","adjustment":-3}' --reason damaged --actor ann
    stockledger cmd create-reservations - --idempotency-key order-1234 < reservation.json`
}

// Run sends the command and shows the answer.
func (c *sendCommand) Run(ctx context.Context, s streams, config *settings) error {
	if c.List {
		return listCommands(s.out, c.JSON)
	}
	if err := c.check(); err != nil {
		return err
	}
	env, err := c.envelope()
	if err != nil {
		return err
	}
	body, err := bodyFrom(c.Body, s.in)
	if err != nil {
		return err
	}
	l, err := c.dial()
	if err != nil {
		return err
	}
	defer l.Close()
	if c.Submit {
		return c.submit(ctx, l, env, body, s.out, config)
	}
	answer, err := l.Command(ctx, c.Name, env, body)
	if err != nil {
		return err
	}
	return c.show(s.out, answer, env.Effective)
}

func (c *sendCommand) check() error {
	switch names := commands.Names(); {
	case c.Name == "":
		return errors.New("which command? stockledger cmd --list has them all")
	case !slices.Contains(names, c.Name):
		return unknown("command", c.Name, names, "stockledger cmd --list has them all")
	case c.Body == "":
		return fmt.Errorf("%s needs a body: JSON, or - to read it from the standard input", c.Name)
	case c.Submit && c.DryRun:
		return errors.New("--submit does not wait for an answer, so --dry-run would tell nothing; give one of the two")
	}
	return nil
}

// envelope is what the flags say. A command that is not named gets its name here,
// so that it can be sent again when no answer comes.
func (c *sendCommand) envelope() (commands.Envelope, error) {
	if c.IdempotencyKey == "" && !c.DryRun {
		c.IdempotencyKey = givenKey("cli_" + uuid.Must(uuid.NewV7()).String())
	}
	var effective time.Time
	if c.EffectiveAt != "" {
		var err error
		if effective, err = here().parse(c.EffectiveAt); err != nil {
			return commands.Envelope{}, fmt.Errorf("--effective-at: %w", err)
		}
	}
	return commands.Envelope{
		Key: string(c.IdempotencyKey), Actor: c.Actor, Reason: c.Reason, Reference: c.Reference,
		Correlation: c.CorrelationID, Effective: effective, DryRun: c.DryRun,
	}, nil
}

// parseTime reads a time in a file, which says the same on every machine: what has
// no zone is in UTC. No text is the zero time.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return calendar{zone: time.UTC}.absolute(text)
}

// maxBody is more than the largest message a NATS server takes by default.
const maxBody = 64 << 20

// bodyFrom is the argument, or what stands in the standard input for -.
func bodyFrom(argument string, in io.Reader) ([]byte, error) {
	if argument != "-" {
		return []byte(argument), nil
	}
	body, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the body from the standard input: %w", err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the body on the standard input is larger than %d MiB", maxBody>>20)
	}
	return body, nil
}

// submit stores the command in the queue.
func (c *sendCommand) submit(ctx context.Context, l client, env commands.Envelope, body []byte, w io.Writer, config *settings) error {
	queue, ok := l.(interface {
		Submit(ctx context.Context, name string, env commands.Envelope, body []byte) (natsapi.Receipt, error)
	})
	if !ok {
		return errors.New("--submit: the queue is on NATS; give its address with --server nats://HOST:PORT")
	}
	receipt, err := queue.Submit(ctx, c.Name, env, body)
	if err != nil {
		return err
	}
	if c.JSON {
		document, err := json.Marshal(receipt)
		if err != nil {
			return err
		}
		return printJSON(w, document)
	}
	again := ""
	if receipt.Duplicate {
		again = " before"
	}
	fmt.Fprintf(w, "stored%s as number %d of the queue (key %s); once carried out it is in:\n  %s\n",
		again, receipt.Sequence, receipt.Key, config.line("get", "commands", receipt.Key, "--server", c.Server))
	return nil
}

// show prints an answer: what became of the command, then the rows it changed.
func (c *sendCommand) show(w io.Writer, answer commands.Answer, effective time.Time) error {
	if c.JSON {
		document, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		return printJSON(w, document)
	}
	switch {
	case answer.DryRun:
		fmt.Fprintln(w, "dry run: it would be accepted; nothing was recorded")
	case answer.Replayed:
		fmt.Fprintf(w, "replayed: carried out before, at position %d; the answer is the one given then (key %s)\n", answer.Position, answer.CommandID)
	case answer.Position == 0:
		fmt.Fprintf(w, "accepted: there was nothing to change (key %s)\n", answer.CommandID)
	default:
		fmt.Fprintf(w, "accepted at position %d (key %s)\n", answer.Position, answer.CommandID)
	}
	if !effective.IsZero() && !answer.Replayed {
		fmt.Fprintf(w, "it counts from %s on the effective clock\n", rfc3339(effective))
	}
	return showResult(w, shapeOf(c.Name), answer.Result)
}

// shapeOf is the kind of rows a command answers with.
func shapeOf(command string) string {
	for _, s := range []struct{ part, shape string }{
		{"levels", "levels"},
		{"reservations", "reservations"},
		{"locations", "locations"},
		{"location-links", "locations"},
		{"links", "links"},
		{"attach", "links"},
		{"detach", "links"},
	} {
		if strings.Contains(command, s.part) {
			return s.shape
		}
	}
	return "items"
}

// showResult prints a result: a table of rows, a list of ids, or an object of these.
func showResult(w io.Writer, shape string, result json.RawMessage) error {
	var rows []row
	if json.Unmarshal(result, &rows) == nil {
		if len(rows) > 0 {
			printTable(w, shapes[shape], rows)
		}
		return nil
	}
	var ids []string
	if json.Unmarshal(result, &ids) == nil {
		fmt.Fprintln(w, strings.Join(ids, "\n"))
		return nil
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(result, &parts) != nil {
		return printJSON(w, result)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if string(parts[name]) == "[]" || string(parts[name]) == "null" {
			continue
		}
		fmt.Fprintf(w, "%s:\n", name)
		if err := showResult(w, shape, parts[name]); err != nil {
			return err
		}
	}
	return nil
}

// described has a line for each command.
var described = map[string]string{
	"create-inventory-items":           "create items, with their first levels",
	"update-inventory-items":           "change attributes of items",
	"delete-inventory-items":           "delete items and their levels; refused while anything is reserved",
	"restore-inventory-items":          "bring deleted items back with the levels they had",
	"create-inventory-levels":          "stock items at locations",
	"update-inventory-levels":          "set quantities of levels, as after a count",
	"delete-inventory-levels":          "delete levels; with force also where something is in stock",
	"batch-inventory-item-levels":      "create, update and delete levels in one go",
	"bulk-create-delete-levels":        "the deprecated name of batch-inventory-item-levels",
	"delete-levels-by-location":        "delete all levels at locations",
	"adjust-inventory-levels":          "move stock up or down",
	"create-reservations":              "set stock aside",
	"update-reservations":              "change, move or describe reservations",
	"delete-reservations":              "release reservations",
	"delete-reservations-by-line-item": "release what line items hold",
	"delete-reservations-by-location":  "release everything reserved at locations",
	"restore-reservations":             "make released reservations hold again",
	"fulfill-reservations":             "take what is reserved out of stock, whole or in part",
	"attach-inventory-items":           "say which items variants are made of, and of how many",
	"update-inventory-links":           "change how many a variant needs",
	"detach-inventory-items":           "take items off variants",
	"batch-inventory-links":            "make, change and remove links of variants in one go",
	"create-stock-locations":           "open stock locations",
	"update-stock-locations":           "change stock locations",
	"update-stock-location-links":      "link locations to sales channels, fulfillment providers and sets",
	"delete-stock-locations":           "close stock locations",
}

func listCommands(w io.Writer, asJSON bool) error {
	if asJSON {
		document, err := json.Marshal(described)
		if err != nil {
			return err
		}
		return printJSON(w, document)
	}
	var rows []row
	for _, name := range commands.Names() {
		rows = append(rows, row{"name": quoted(name), "about": quoted(described[name])})
	}
	printTable(w, []column{col("COMMAND", "name"), col("WHAT IT DOES", "about")}, rows)
	return nil
}

func quoted(text string) json.RawMessage {
	raw, _ := json.Marshal(text) // a text always has a JSON form
	return raw
}

// unknown is the error for a name that is not among those there are, with the
// one that was probably meant.
func unknown(what, name string, names []string, where string) error {
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("there is no %s %q; did you mean %s? %s", what, name, near, where)
	}
	return fmt.Errorf("there is no %s %q; %s", what, name, where)
}

// nearest is the name that takes the fewest edits to come to, if that is about a
// third of it, or one that contains it.
func nearest(name string, names []string) string {
	best, fewest := "", max(2, len(name)/3)+1
	for _, candidate := range names {
		if n := edits(name, candidate); n < fewest {
			best, fewest = candidate, n
		}
	}
	if best != "" || name == "" {
		return best
	}
	for _, candidate := range names {
		if strings.Contains(candidate, strings.TrimSuffix(name, "s")) {
			return candidate
		}
	}
	return ""
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	line := make([]int, len(b)+1)
	for j := range line {
		line[j] = j
	}
	for i := range len(a) {
		diagonal := line[0]
		line[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = line[j+1]
			line[j+1] = min(change, diagonal+1, line[j]+1)
		}
	}
	return line[len(b)]
}
