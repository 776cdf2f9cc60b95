package operations

import (
	"context"

	"github.com/stockledger/stockledger/projections"
)

// ofModels are the operations on read models.
func ofModels() map[string]operation {
	return map[string]operation{
		"list-generations": direct("the generations of the read models: served, building, ready and kept", (*Operations).generations),
		"rebuild-models":   direct("build the next generation of read models beside the served one", (*Operations).rebuild),
		"switch-models":    direct("serve the generation that was rebuilt, or the one that was served before", (*Operations).switchTo),
		"diff-models":      asJob("diff-models", "which rows the served generation and the rebuilt one do not have in common, and since when", (*Operations).diff),
		"drop-generation":  direct("delete a generation that is not served", (*Operations).drop),
	}
}

// Generations are all there are, or those an operation was about.
type Generations struct {
	Generations []projections.Generation `json:"generations"` // by model, oldest first
}

func generations(all []projections.Generation, err error) (Generations, error) {
	if all == nil {
		all = []projections.Generation{}
	}
	return Generations{all}, err
}

func (o *Operations) generations(ctx context.Context, _ struct{}) (Generations, error) {
	return generations(o.ledger.Models().Generations(ctx))
}

// Some are read models by name; none named are all of them.
type Some struct {
	Models []string `json:"models"`
}

func (o *Operations) rebuild(ctx context.Context, which Some) (Generations, error) {
	return generations(o.ledger.Models().Rebuild(ctx, which.Models...))
}

// A Turn is a switch forward, to what was rebuilt, or back.
type Turn struct {
	Models []string `json:"models"`
	Back   bool     `json:"back"`
}

func (o *Operations) switchTo(ctx context.Context, turn Turn) (Generations, error) {
	return generations(o.ledger.Models().Switch(ctx, turn.Back, turn.Models...))
}

// One is one generation of a read model.
type One struct {
	Model  string `json:"model"`
	Number int    `json:"generation"`
}

// drop answers with the generations that are left.
func (o *Operations) drop(ctx context.Context, one One) (Generations, error) {
	if err := o.ledger.Models().Drop(ctx, one.Model, one.Number); err != nil {
		return Generations{}, err
	}
	return o.generations(ctx, struct{}{})
}

// A Contrast says what to compare, and how many of the worst rows of each table to
// name: 0 is 20, less is all.
type Contrast struct {
	Models []string `json:"models"`
	Rows   int      `json:"rows"`
}

func (o *Operations) diff(ctx context.Context, asked Contrast, tell progressing) (projections.Difference, error) {
	return o.ledger.Models().Diff(ctx, projections.DiffOptions{Models: asked.Models, Rows: asked.Rows, Progress: tell})
}
