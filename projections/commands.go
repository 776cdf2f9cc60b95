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
	CommandID string    `json:"command_id"`
	Name      string    `json:"command"` // such as adjust-inventory-levels
	Digest    string    `json:"digest"`
	Position  uint64    `json:"position"`       // of the last event of its commit
	First     uint64    `json:"first_position"` // of the first one
	Events    uint64    `json:"events"`
	Actor     string    `json:"actor"`
	Reason    string    `json:"reason"`
	Reference string    `json:"reference"`
	Recorded  time.Time `json:"recorded_at"`
}

// The answers are not here: the log has them, on the last event of each commit.
var commandsModel = definition{
	name: "commands", version: 1,
	schema: `
CREATE TABLE commands (
	position    INTEGER PRIMARY KEY, -- of the last event of the commit
	command_id  TEXT NOT NULL UNIQUE,
	command     TEXT NOT NULL,
	digest      TEXT NOT NULL,
	events      INTEGER NOT NULL,
	actor       TEXT,
	reason      TEXT,
	reference   TEXT,
	recorded_at INTEGER NOT NULL
);`,
	fold: func(*file) fold { return new(commandsFold) },
}

// commandsFold notes the last event of every commit. It says how many there are,
// so the others can be passed over, whichever batch they come in.
type commandsFold struct{ lasts []*event }

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
	for _, e := range f.lasts {
		err := w.exec(`INSERT INTO commands (position, command_id, command, digest, events, actor, reason, reference, recorded_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			int64(e.Position), e.meta.CommandID, e.meta.Command, e.meta.Digest, int64(max(1, e.meta.Parts)),
			storeBlank(e.meta.Actor), storeBlank(e.meta.Reason), storeBlank(e.meta.Reference), storeMoment(e.at))
		if err != nil {
			return fmt.Errorf("write command %s: %w", e.meta.CommandID, err)
		}
	}
	f.forget()
	return nil
}

func (f *commandsFold) trim() {}

func (f *commandsFold) forget() {
	clear(f.lasts)
	f.lasts = f.lasts[:0]
}

const commandColumns = `command_id, command, digest, position, events, actor, reason, reference, recorded_at`

func scanCommand(s scanner) (c Command, err error) {
	err = s.Scan(&c.CommandID, &c.Name, &c.Digest, &c.Position, &c.Events,
		blank{&c.Actor}, blank{&c.Reason}, blank{&c.Reference}, moment{&c.Recorded})
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
	rows, err := m.commands.file.lookup(ctx, `SELECT `+commandColumns+` FROM commands WHERE command_id = ?`, commandID)
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

var commandsList = list[Command]{
	from:    `commands`,
	columns: commandColumns,
	filters: []column{
		{"command_id", asText}, {"command", asText}, {"digest", asText}, {"actor", asText}, {"reason", asText}, {"reference", asText},
	},
	scan: scanCommand,
}

// ListCommands lists the commands that were carried out.
func (m *Models) ListCommands(ctx context.Context, l List) (Page[Command], error) {
	return commandsList.run(ctx, m.commands, l)
}
