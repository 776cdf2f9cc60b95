package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/stockledger/stockledger/events"
)

type importFile struct {
	Items       importItems       `cmd:"" help:"Create an item from each row, with a first level if there is a location."`
	Adjustments importAdjustments `cmd:"" help:"Adjust a level by each row."`
	reach
}

// Help implements kong.HelpProvider.
func (importFile) Help() string {
	return `Each row becomes a command of its own, with a key made of the import's name and the row's number. So a row counts once, however often
the import is stopped, killed, resumed or repeated, and from wherever: run the same command again. The name is made of the file's bytes and
of what the mapping does to stock.

Before the first command is sent, the whole file is read and checked. With --dry-run every row is also shown to the ledger, one by one and
each against the stock as it is now; nothing is recorded.

What a row says counts from now on, or from effective_at: give the opening stock a time before the first sale, and stockledger as-of --clock
effective is right about the past. Times without a zone are in UTC.

Exit status: 0 every row that was sent is in the ledger; 1 nothing was sent, because rows are malformed or the command is wrong; 2 the ledger
refused rows; 3 the ledger went away, and running the same command again goes on.

Examples:

    stockledger import items sales.csv --map id=stock_code --map sku=stock_code --map title=description --distinct sku
          --set location_id=warehouse --set stocked_quantity=5000 --set effective_at=2010-12-01
    stockledger import adjustments sales.csv --map sku=stock_code --map adjustment=quantity --negate
          --map reference=invoice_no --map effective_at=invoice_date --set location_id=warehouse
          --reason-positive sale --reason-negative return --report verdicts.csv`
}

// importing are the flags of both imports.
type importing struct {
	File string   `arg:"" help:"The CSV file; its first line names the columns."`
	Map  []string `sep:"none" placeholder:"FIELD=COLUMN" help:"Take a field from a column; repeat it for each field."`
	Set  []string `sep:"none" placeholder:"FIELD=VALUE" help:"Give a field the same value in all rows."`

	Actor    string        `help:"Who imports; the field actor goes before it."`
	ImportID string        `placeholder:"ID" help:"Name of the import. Made from the file and the mapping when left out."`
	DryRun   bool          `help:"Check every row, also with the ledger; nothing is recorded."`
	SkipBad  bool          `help:"Import the other rows when some are malformed."`
	Report   string        `placeholder:"FILE" help:"Write a CSV with the verdict on each row."`
	Journal  string        `placeholder:"FILE" help:"Where to note what is done, to resume faster; beside the data when left out, 'none' for nowhere."`
	RetryFor time.Duration `default:"30s" help:"How long to go on trying when the ledger does not answer."`
	InFlight int           `default:"64" help:"How many rows are under way at once; 1 keeps their order in the log."`
	JSON     bool          `help:"Print the totals in JSON."`
	reach    `kong:"-"`    // whose flags are those of importFile
}

type importItems struct {
	Distinct string `placeholder:"FIELD" help:"Only the first row of those with the same value in that field, such as sku."`
	importing
}

// Run imports items.
func (c *importItems) Run(ctx context.Context, s streams, config *settings, up *importFile) error {
	m, err := newMapping(itemRows, c.Map, c.Set)
	if err != nil {
		return err
	}
	m.distinct, c.reach = c.Distinct, up.reach
	return c.run(ctx, s, config, m)
}

type importAdjustments struct {
	Negate         bool   `help:"Change the sign of adjustments: the file says how much was sold."`
	ItemBy         string `enum:"id,sku," default:"" placeholder:"id|sku" help:"What rows name the item by; follows from the mapping when left out."`
	ReasonPositive string `placeholder:"REASON" help:"Reason of rows whose column is 0 or more, before --negate."`
	ReasonNegative string `placeholder:"REASON" help:"Reason of rows whose column is below 0, before --negate."`
	importing
}

// Run imports adjustments.
func (c *importAdjustments) Run(ctx context.Context, s streams, config *settings, up *importFile) error {
	m, err := newMapping(adjustmentRows, c.Map, c.Set)
	if err != nil {
		return err
	}
	if c.ItemBy == "sku" && !m.has("sku") {
		return errors.New("--item-by sku needs the SKUs: --map sku=COLUMN")
	}
	if c.ItemBy == "id" && !m.has("inventory_item_id") {
		return errors.New("--item-by id needs the ids: --map inventory_item_id=COLUMN")
	}
	m.negate, m.positive, m.negative = c.Negate, c.ReasonPositive, c.ReasonNegative
	c.reach = up.reach
	return c.run(ctx, s, config, m)
}

// run is an import from the first look at the file to the totals.
func (c *importing) run(ctx context.Context, s streams, config *settings, m *mapping) error {
	if err := c.check(m); err != nil {
		return err
	}
	progress := newProgress(s.err)
	found, err := c.inspect(progress, m)
	if err != nil {
		return err
	}
	l, err := c.connect(ctx, progress)
	if err != nil {
		return err
	}
	defer l.Close()
	totals, err := c.send(ctx, l, progress, m, found)
	if err != nil {
		return err
	}
	if err := totals.print(s.out, c.JSON); err != nil {
		return err
	}
	return c.verdict(s, config, totals)
}

// connect connects to the ledger, which may be about to come back.
func (c *importing) connect(ctx context.Context, progress *progress) (l client, err error) {
	err = c.patience(progress).try(ctx, func(context.Context) (err error) {
		l, err = c.dial()
		return err
	})
	return l, err
}

func (c *importing) patience(progress *progress) patience {
	return patience{c.RetryFor, c.Timeout, progress}
}

func (c *importing) check(m *mapping) error {
	switch {
	case c.File == "-":
		return errors.New("an import reads its file twice, and again when it is resumed: save it to a file first")
	case c.InFlight < 1 || c.InFlight > 1000:
		return fmt.Errorf("--in-flight %d: choose 1 to 1000", c.InFlight)
	case len(c.ImportID) > 200:
		return fmt.Errorf("--import-id has %d bytes; 200 are allowed", len(c.ImportID))
	}
	if err := cmp.Or(m.check(), c.checkFiles()); err != nil {
		return err
	}
	header, err := csvFile{c.File}.header()
	if err != nil {
		return err
	}
	return m.bind(header)
}

// checkFiles makes sure that what the import writes costs nobody a file.
func (c *importing) checkFiles() error {
	journal := c.Journal
	if journal == "none" {
		journal = ""
	}
	for _, two := range []struct{ one, other, flags string }{
		{journal, c.File, "--journal and the data are"},
		{c.Report, c.File, "--report and the data are"},
		{journal, c.Report, "--journal and --report are"},
	} {
		if sameFile(two.one, two.other) {
			return fmt.Errorf("%s the same file, %s; name another one", two.flags, two.one)
		}
	}
	return cmp.Or(journalFile.mayReplace(journal), reportFile.mayReplace(c.Report))
}

// listed bounds how many rows are told one by one; --report has all of them.
const listed = 20

// inspect reads and checks the whole file, so that nothing is half imported for
// a mistake that could have been seen before.
func (c *importing) inspect(progress *progress, m *mapping) (inspection, error) {
	progress.begin("check", -1)
	defer progress.end()
	var bad []line
	found, err := csvFile{c.File}.inspect(m, func(l line) {
		progress.add(1)
		if l.bad != nil && len(bad) < listed {
			bad = append(bad, l)
		}
	})
	if err != nil {
		return found, err
	}
	found.id = cmp.Or(c.ImportID, found.id)
	for _, l := range bad {
		progress.say("%s:%d: row %d: %v", c.File, l.at, l.number, l.bad)
	}
	if found.bad > len(bad) {
		progress.say("… and %d more", found.bad-len(bad))
	}
	if found.bad > 0 && !c.SkipBad && !c.DryRun {
		return found, fmt.Errorf("%d of %s malformed, so nothing was sent; mend them, or leave them out with --skip-bad",
			found.bad, were(found.rows, "row"))
	}
	return found, nil
}

// send sends the rows and then asks the ledger whether it has them.
func (c *importing) send(ctx context.Context, l ledger, progress *progress, m *mapping, found inspection) (totals, error) {
	sum := totals{Import: found.id, DryRun: c.DryRun}
	logID, head := logOf(ctx, l)
	j, err := c.journal(progress, found.id, logID)
	if err != nil {
		return sum, err
	}
	for {
		run := sender{
			ledger: l, file: csvFile{c.File}, mapping: m, id: found.id, actor: c.Actor, dryRun: c.DryRun, inFlight: c.InFlight,
			patience: c.patience(progress), items: skus{head: head}, journal: j,
		}
		if sum, err = run.run(ctx, c.Report, found.rows); err != nil || c.DryRun || sum.Unknown > 0 {
			break
		}
		if sum.Held, err = run.held(ctx); err != nil {
			progress.say("every row was sent, but the ledger cannot be asked whether it has them; run the same command again")
			break
		}
		if *sum.Held == sum.settled() || sum.Journaled == 0 {
			break
		}
		// The ledger was taken back to an earlier state, such as by a restored
		// backup. What it has lost is sent again.
		progress.say("the ledger has %d of %d rows that the journal has; sending all of them again", *sum.Held, sum.settled())
		if err = j.close(true); err != nil {
			break
		}
		j = nil
	}
	return sum, errors.Join(err, j.close(err == nil && sum.complete()))
}

// journal opens the journal. An import goes on without one where it cannot be
// written, such as beside data on a read-only disk.
func (c *importing) journal(progress *progress, importID, logID string) (*journal, error) {
	if c.DryRun || c.Journal == "none" {
		return nil, nil
	}
	j, err := openJournal(cmp.Or(c.Journal, c.File+"."+url.PathEscape(importID)+".journal"), importID, logID)
	if err != nil && c.Journal == "" {
		progress.say("%v; going on without one", err)
		return nil, nil
	}
	return j, err
}

// logOf is the identity and the length of the log; "" and 0 when the ledger does
// not tell.
func logOf(ctx context.Context, l ledger) (id string, head uint64) {
	h, err := ask[health](ctx, l, statusQuery, nil)
	if err != nil {
		return "", 0
	}
	return h.LogID, h.Head
}

// totals are what became of the rows.
type totals struct {
	Import     string          `json:"import_id"`
	DryRun     bool            `json:"dry_run"`
	Rows       int             `json:"rows"`
	Accepted   int             `json:"accepted"`
	Replayed   int             `json:"replayed"`  // carried out by an earlier run
	Journaled  int             `json:"journaled"` // of those replayed, not sent: the journal has them
	Same       int             `json:"same_item"`
	Refused    int             `json:"refused"`
	Bad        int             `json:"bad"`
	Unknown    int             `json:"unknown"` // not sent, or not answered
	Adjustment events.Quantity `json:"adjustment"`
	Held       *int            `json:"held"` // rows of this import in the ledger; null when it was not asked
	Seconds    float64         `json:"seconds"`

	adjusts bool
	stopped error // why not all rows were sent; context.Canceled is that somebody stopped it
}

// settled is how many rows the ledger must have.
func (t totals) settled() int { return t.Accepted + t.Replayed }

// complete reports whether there is nothing left to do, ever.
func (t totals) complete() bool {
	return t.Refused == 0 && t.Bad == 0 && t.Unknown == 0 && t.Held != nil && *t.Held == t.settled()
}
