package medusaapi

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/transport"
	"github.com/stockledger/stockledger/projections"
)

// The bounds on exports.
const (
	keptExports    = 20  // files; the oldest goes when another is done
	waitingExports = 16  // behind the one being written
	exportPage     = 500 // items read at once
)

// exportPrefix begins the ids of exports. A UUID of version 7 follows, which begins
// with its time.
const exportPrefix = "export_"

// Exports writes exports of inventory items to files of a directory, one after
// the other, in the background. Its methods may be called from many goroutines.
type Exports struct {
	models *projections.Models
	root   *os.Root
	logger *slog.Logger
	jobs   chan exportJob
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	failed map[string]bool // of those that are not done; false while it is under way
	done   []string        // the newest last
}

type exportJob struct {
	id     string
	wanted projections.List
}

// OpenExports takes a directory, which is made if it is missing, and goes on with the
// exports that are in it. What was not finished when the last process ended is gone.
func OpenExports(dir string, models *projections.Models, logger *slog.Logger) (*Exports, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("exports: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("exports: %w", err)
	}
	run, cancel := context.WithCancel(context.Background())
	e := &Exports{
		models: models, root: root, logger: cmp.Or(logger, slog.New(slog.DiscardHandler)), cancel: cancel,
		jobs: make(chan exportJob, waitingExports), failed: make(map[string]bool),
	}
	if err := e.find(); err != nil {
		return nil, errors.Join(fmt.Errorf("exports: %w", err), e.Close())
	}
	e.work.Go(func() { e.writeAll(run) })
	return e, nil
}

// find finds the exports of earlier, oldest first, and removes what is unfinished.
// What else is in the directory is left alone.
func (e *Exports) find() error {
	files, err := fs.ReadDir(e.root.FS(), ".") // sorted by name, and so by time
	if err != nil {
		return err
	}
	for _, file := range files {
		name, ours := strings.CutPrefix(file.Name(), exportPrefix)
		if !ours {
			continue
		}
		if id, whole := strings.CutSuffix(name, ".csv"); whole {
			e.done = append(e.done, exportPrefix+id)
		} else if strings.HasSuffix(name, ".part") {
			if err := e.root.Remove(file.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close stops writing, and waits until it has.
func (e *Exports) Close() error {
	e.cancel()
	e.work.Wait()
	return e.root.Close()
}

// start begins an export of the items that are wanted, and returns its id.
func (e *Exports) start(wanted projections.List) (string, error) {
	made, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	id := exportPrefix + made.String()
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case e.jobs <- exportJob{id, wanted}:
		e.failed[id] = false
		return id, nil
	default:
		return "", fault.New(fault.Unavailable, "busy", "%d exports are waiting already; try again when one is done", waitingExports)
	}
}

func (e *Exports) writeAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-e.jobs:
			err := e.write(ctx, job)
			if err != nil && ctx.Err() == nil {
				e.logger.ErrorContext(ctx, "export failed", slog.String("export", job.id), slog.Any("err", err))
			}
			e.finish(job.id, err)
		}
	}
}

// finish notes the end of an export, and forgets the oldest.
func (e *Exports) finish(id string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.failed[id] = true
		e.forgetFailures()
		return
	}
	delete(e.failed, id)
	e.done = append(e.done, id)
	for len(e.done) > keptExports {
		if err := e.root.Remove(e.done[0] + ".csv"); err != nil {
			e.logger.Warn("old export not removed", slog.String("export", e.done[0]), slog.Any("err", err))
		}
		e.done = e.done[1:]
	}
}

// forgetFailures keeps the list of failures as short as that of files.
func (e *Exports) forgetFailures() {
	var all []string
	for id, failed := range e.failed {
		if failed {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	for _, id := range all[:max(0, len(all)-keptExports)] {
		delete(e.failed, id)
	}
}

// open opens the file of an export that is done.
func (e *Exports) open(id string) (*os.File, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	missing := fault.New(fault.NotFound, "not_found", "Export with id: %s was not found", id).With("export", id)
	failed, known := e.failed[id]
	switch {
	case known && !failed:
		return nil, fault.New(fault.Conflict, "export_under_way", "export %s is not done yet; ask again", id).With("export", id)
	case known:
		return nil, fault.New(fault.Unavailable, "export_failed", "export %s failed; the ledger's log says why; start another", id).With("export", id)
	case !slices.Contains(e.done, id):
		return nil, missing
	}
	file, err := e.root.Open(id + ".csv")
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed it
		return nil, missing
	}
	return file, err
}

// write writes one export under another name until it is whole and on the disk.
func (e *Exports) write(ctx context.Context, job exportJob) (err error) {
	name := job.id + ".part"
	file, err := e.root.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.root.Remove(name))
		}
	}()
	err = e.writeRows(ctx, csv.NewWriter(file), job.wanted)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		return err
	}
	return e.root.Rename(name, job.id+".csv")
}

// exportColumns are those of the file: of the item, and of one of its levels. An
// item without levels has one row, which ends early.
var exportColumns = []string{
	"Item Id", "Item Sku", "Item Title", "Item Description", "Item Thumbnail", "Item Origin Country", "Item Hs Code",
	"Item Mid Code", "Item Material", "Item Weight", "Item Length", "Item Height", "Item Width", "Item Requires Shipping",
	"Item Metadata", "Item Stocked Quantity", "Item Reserved Quantity", "Item Created At", "Item Updated At",
	"Level Id", "Location Id", "Location Name", "Stocked Quantity", "Reserved Quantity", "Incoming Quantity", "Available Quantity",
}

func (e *Exports) writeRows(ctx context.Context, to *csv.Writer, wanted projections.List) error {
	wanted.Take, wanted.NoCount, wanted.Relations = new(exportPage), true, []string{"location_levels"}
	if err := to.Write(exportColumns); err != nil {
		return err
	}
	names := make(map[string]string) // of locations that were met
	for {
		page, err := e.models.ListItems(ctx, wanted)
		if err != nil {
			return err
		}
		if err := e.name(ctx, names, page.Rows); err != nil {
			return err
		}
		for _, row := range page.Rows {
			for _, record := range recordsOf(row, names) {
				if err := to.Write(record); err != nil {
					return err
				}
			}
		}
		if to.Flush(); to.Error() != nil {
			return to.Error()
		}
		if page.Next == nil {
			return nil
		}
		wanted.Cursor = *page.Next
	}
}

// name finds the names of the locations that rows are the first to mention.
func (e *Exports) name(ctx context.Context, names map[string]string, rows []projections.ItemRow) error {
	var ids []string
	for _, row := range rows {
		for _, l := range row.Levels {
			if _, known := names[l.LocationID]; !known {
				names[l.LocationID] = ""
				ids = append(ids, l.LocationID)
			}
		}
	}
	for chunk := range slices.Chunk(ids, maxPage) {
		page, err := e.models.ListLocations(ctx, projections.List{
			Filter: map[string]any{"id": chunk}, WithDeleted: true, Take: new(maxPage), NoCount: true,
		})
		if err != nil {
			return err
		}
		for _, l := range page.Rows {
			names[l.ID] = l.Name
		}
	}
	return nil
}

// recordsOf are the rows of one item in the file.
func recordsOf(row projections.ItemRow, names map[string]string) [][]string {
	item := []string{
		plainText(row.ID), text(row.SKU), text(row.Title), text(row.Description), text(row.Thumbnail), text(row.OriginCountry), text(row.HSCode),
		text(row.MIDCode), text(row.Material), number(row.Weight), number(row.Length), number(row.Height), number(row.Width),
		fmt.Sprint(row.RequiresShipping), string(row.Metadata), row.Stocked.String(), row.Reserved.String(),
		row.Created.Format(timeFormat), row.Updated.Format(timeFormat),
	}
	if len(row.Levels) == 0 {
		return [][]string{slices.Concat(item, make([]string, len(exportColumns)-len(item)))}
	}
	return mapped(row.Levels, func(l projections.Level) []string {
		return slices.Concat(item, []string{
			plainText(l.ID), plainText(l.LocationID), plainText(names[l.LocationID]),
			l.Stocked.String(), l.Reserved.String(), l.Incoming.String(), l.Available.String(),
		})
	})
}

// timeFormat is how times are written in JSON.
const timeFormat = "2006-01-02T15:04:05.999999999Z07:00"

func text(s *string) string {
	if s == nil {
		return ""
	}
	return plainText(*s)
}

// plainText keeps spreadsheets from taking a text for a formula.
func plainText(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func number(q *events.Quantity) string {
	if q == nil {
		return ""
	}
	return q.String()
}

type exportAnswer struct {
	ID string `json:"transaction_id"`
}

func (a *api) exportRoutes() []httpapi.Route {
	if a.exports == nil {
		return nil
	}
	export := a.write(http.MethodPost, "/admin/inventory-items/export", "admin-export-inventory-items",
		"write the items that match to a CSV file, with their levels", itemListParams, nil, exportAnswer{}, nil)
	export.Scope, export.Status, export.Errors = httpapi.Query, http.StatusAccepted, []int{400, 503}
	export.Handler = a.handler(http.StatusAccepted, startExport)
	return []httpapi.Route{export, {
		Method: http.MethodGet, Path: "/ledger/v1/exports/{id}", Name: "download-export", About: "the file of an export, once it is done",
		Scope: httpapi.Query, Errors: []int{404, 409, 503}, Handler: a.downloadExport,
	}}
}

// startExport takes the parameters of the list; limit, offset and fields change
// nothing. An export is no command, and so there is none to try.
func startExport(c *call) (any, error) {
	env, err := transport.Envelope(c.r.Header)
	if err != nil {
		return nil, err
	}
	if env.DryRun {
		return nil, invalid("an export has no dry run; leave Ledger-Dry-Run out")
	}
	to, err := c.query(itemListParams, 0)
	if err != nil {
		return nil, err
	}
	if _, err := itemEntity.chosen(to.fields, nil); err != nil {
		return nil, err
	}
	to.Skip = 0
	probe := to.List // a filter that makes no sense is told now
	probe.Take, probe.NoCount = new(0), true
	if _, err := c.models.ListItems(c.ctx(), probe); err != nil {
		return nil, err
	}
	id, err := c.exports.start(to.List)
	return exportAnswer{id}, err
}

// downloadExport is a route of ours: its errors look as on all of those.
func (a *api) downloadExport(w http.ResponseWriter, r *http.Request) {
	file, err := a.exports.open(r.PathValue("id"))
	if err != nil {
		a.tell(r, err)
		if err := httpapi.WriteJSON(w, httpapi.Status(err), fault.Public(err)); err != nil {
			a.refuse(w, r, err)
		}
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+r.PathValue("id")+`.csv"`)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	info, err := file.Stat()
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	http.ServeContent(w, r, "", info.ModTime(), file)
}
