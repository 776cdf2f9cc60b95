package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Command is a command that was carried out.
type Command struct {
	CommandID string `json:"command_id"`
	Name      string `json:"command"` // such as adjust-inventory-levels
	Digest    string `json:"digest"`
	Position  uint64 `json:"position"`       // of the last event of its commit
	First     uint64 `json:"first_position"` // of the first one
	Events    uint64 `json:"events"`
	Actor     string `json:"actor"`
	Reason    string `json:"reason"`
	Reference string `json:"reference"`
	// Correlation is the business process, Causation what made the publisher send it.
	Correlation string    `json:"correlation_id"`
	Causation   string    `json:"causation_id"`
	Recorded    time.Time `json:"recorded_at"`
	Effective   time.Time `json:"effective_at"` // when it happened in the world
}

// The answers are not here: the log has them, on the last event of each commit.
// Positions and recorded_at grow together.
var commandsPart = part{
	schema: `
CREATE TABLE commands (
	position       INTEGER PRIMARY KEY, -- of the last event of the commit
	events         INTEGER NOT NULL,
	command_id     TEXT NOT NULL,
	command        TEXT NOT NULL,
	digest         TEXT NOT NULL,
	actor          TEXT,
	reason         TEXT,
	reference      TEXT,
	correlation_id TEXT,
	causation_id   TEXT,
	recorded_at    INTEGER NOT NULL,
	effective_at   INTEGER NOT NULL
);
CREATE UNIQUE INDEX commands_by_id   ON commands (command_id);
CREATE INDEX commands_by_name        ON commands (command);
CREATE INDEX commands_by_actor       ON commands (actor) WHERE actor IS NOT NULL;
CREATE INDEX commands_by_reason      ON commands (reason) WHERE reason IS NOT NULL;
CREATE INDEX commands_by_reference   ON commands (reference) WHERE reference IS NOT NULL;
CREATE INDEX commands_by_correlation ON commands (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX commands_by_recorded    ON commands (recorded_at);
CREATE INDEX commands_by_effective   ON commands (effective_at) WHERE effective_at <> recorded_at;`,
	fold: newCommandsFold,
}

// commandsFold notes the last event of every commit. It says how many there are,
// so the others can be passed over, whichever batch they come in.
type commandsFold struct {
	lasts []*event
	bulk  *bulk
}

func newCommandsFold(*file) fold {
	return &commandsFold{bulk: newBulk(`INSERT OR FAIL INTO commands (position, events, command_id, command, digest, actor, reason, reference,
		correlation_id, causation_id, recorded_at, effective_at)`, 12)}
}

func (f *commandsFold) apply(e *event) error {
	if !e.meta.Last() {
		return nil
	}
	if e.meta.CommandID == "" {
		return fmt.Errorf("names no command")
	}
	f.lasts = append(f.lasts, e)
	return nil
}

func (f *commandsFold) flush(w *writer) error {
	if err := f.spill(w); err != nil {
		return err
	}
	if err := f.bulk.end(w); err != nil {
		return fmt.Errorf("write commands: %w", err)
	}
	return nil
}

func (f *commandsFold) spill(w *writer) error {
	for _, e := range f.lasts {
		err := f.bulk.add(w,
			int64(e.Position), int64(max(1, e.meta.Parts)), e.meta.CommandID, e.meta.Command, e.meta.Digest,
			storeBlank(e.meta.Actor), storeBlank(e.meta.Reason), storeBlank(e.meta.Reference),
			storeBlank(e.meta.Correlation), storeBlank(e.meta.Causation), storeMoment(e.at), storeMoment(e.meta.EffectiveAt()))
		if err != nil {
			return fmt.Errorf("write commands: %w", err)
		}
	}
	clear(f.lasts)
	f.lasts = f.lasts[:0]
	return nil
}

func (f *commandsFold) trim() {}

func (f *commandsFold) forget() {
	clear(f.lasts)
	f.lasts = f.lasts[:0]
	f.bulk.forget()
}

const commandColumns = `command_id, command, digest, position, events, actor, reason, reference, correlation_id, causation_id,
	recorded_at, effective_at`

func scanCommand(s scanner) (c Command, err error) {
	err = s.Scan(&c.CommandID, &c.Name, &c.Digest, &c.Position, &c.Events,
		blank{&c.Actor}, blank{&c.Reason}, blank{&c.Reference}, blank{&c.Correlation}, blank{&c.Causation},
		moment{&c.Recorded}, moment{&c.Effective})
	c.First = c.Position - c.Events + 1
	return c, err
}

// AnsweredCommand is a command with what its publisher was answered.
type AnsweredCommand struct {
	Command
	Answer json.RawMessage `json:"answer"`
}

// RetrieveCommand finds a command by its idempotency key.
func (m *Models) RetrieveCommand(ctx context.Context, commandID string) (AnsweredCommand, error) {
	m, done, err := m.pin(ofMovements)
	if err != nil {
		return AnsweredCommand{}, err
	}
	defer done()
	rows, err := m.movements.file.lookup(ctx, `SELECT `+commandColumns+` FROM commands WHERE command_id = ?`, commandID)
	c, found, err := first(rows, err, scanCommand)
	if err != nil {
		return AnsweredCommand{}, fmt.Errorf("retrieve command %s: %w", commandID, err)
	}
	if !found {
		return AnsweredCommand{}, notFound("Command with id: "+commandID+" was not found", "command_id", commandID)
	}
	e, err := m.eventAt(ctx, c.Position)
	if err != nil {
		return AnsweredCommand{}, fmt.Errorf("retrieve command %s: %w", commandID, err)
	}
	meta, err := e.Metadata()
	if err != nil {
		return AnsweredCommand{}, fmt.Errorf("retrieve command %s: %w", commandID, err)
	}
	return AnsweredCommand{c, meta.Answer}, nil
}

// eventAt reads one event of the log, which must be there.
func (m *Models) eventAt(ctx context.Context, position uint64) (events.Recorded, error) {
	for batch, err := range m.store.Subscribe(ctx, position-1) {
		if err != nil {
			return events.Recorded{}, err
		}
		return batch[0], nil
	}
	panic("projections: a subscription ended without an error")
}

var commandsTable = table{
	name: `commands`,
	filters: []column{
		{"command_id", asText},
		{"command", asText},
		{"digest", asText},
		{"actor", asText},
		{"reason", asText},
		{"reference", asText},
		{"correlation_id", asText},
		{"causation_id", asText},
		{"position", asWhole},
		{"events", asWhole},
		{"recorded_at", asTime},
		{"effective_at", asTime},
	},
	indexes: []index{
		{name: `commands_by_id`, table: `commands`, column: `command_id`, then: `position`, unique: true},
		{name: `commands_by_name`, table: `commands`, column: `command`, then: `position`},
		{name: `commands_by_actor`, table: `commands`, column: `actor`, then: `position`, given: true},
		{name: `commands_by_reason`, table: `commands`, column: `reason`, then: `position`, given: true},
		{name: `commands_by_reference`, table: `commands`, column: `reference`, then: `position`, given: true},
		{name: `commands_by_correlation`, table: `commands`, column: `correlation_id`, then: `position`, given: true},
		{name: `commands_by_recorded`, table: `commands`, column: `recorded_at`, then: `position`},
	},
}

var commandsList = list[Command]{
	table:   &commandsTable,
	columns: commandColumns,
	scan:    scanCommand,
}

// ListCommands lists the commands that were carried out.
func (m *Models) ListCommands(ctx context.Context, l List) (Page[Command], error) {
	return commandsList.run(ctx, m, ofMovements, l)
}
