package projections

import "context"

// auditQueries ask what happened, and what was.
var auditQueries = map[string]query{
	"retrieve-command": ask("a command that was carried out and its answer, by command_id", ofMovements,
		func(ctx context.Context, m *Models, p byCommand) (AnsweredCommand, error) {
			return m.RetrieveCommand(ctx, p.CommandID)
		}),
	"list-commands": lists("commands that were carried out, by command, actor, reason and more", &commandsList, ofMovements),
	"stock-history": ask("changes of quantities, by item, level, location, actor, reference, time and more, with running sums", ofMovements,
		func(ctx context.Context, m *Models, h History) (Movements, error) { return m.StockHistory(ctx, h) }),
	"as-of": ask("what a level, an item or a location held at a position or an instant, on either clock", ofMovements,
		func(ctx context.Context, m *Models, q AsOf) (Then, error) { return m.AsOf(ctx, q) }),
	"explain": ask("the events that make a quantity, read from the log and checked against what is served", ofInventory,
		func(ctx context.Context, m *Models, q Explain) (Explanation, error) { return m.Explain(ctx, q) }),
}
