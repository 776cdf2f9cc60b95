package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

type rebuild struct {
	Models []string `arg:"" optional:"" name:"model" help:"The read models to rebuild: inventory, movements; all of them when left out."`
	Switch bool     `help:"Switch to what was rebuilt as soon as it has caught up, without a look at the difference."`
	Wait   bool     `default:"true" negatable:"" help:"Wait until it has caught up. --no-wait only starts it."`
	JSON   bool     `help:"Answer in JSON."`
	onLedger
}

// Help implements kong.HelpProvider.
func (rebuild) Help() string {
	return `Builds the next generation of read models from the first event on, beside the served one, which goes on answering. Nothing changes for
anybody until stockledger switch. ^C ends the waiting; a server goes on building, and the same command line waits for it again.

Exit status: 0 it has caught up, or was started with --no-wait; 1 it has stopped, with the reason; 2 refused; 3 no answer.

Examples:

    stockledger rebuild
    stockledger rebuild inventory && stockledger diff inventory; stockledger switch inventory
    stockledger rebuild --switch --data /var/lib/stockledger`
}

// Run rebuilds read models.
func (c *rebuild) Run(ctx context.Context, s streams, config *settings) (err error) {
	switch {
	case c.local() && !c.Wait:
		return errors.New("--no-wait is for a server, which goes on building; with --data nobody would")
	case c.Switch && !c.Wait:
		return errors.New("--no-wait and --switch: what is not waited for cannot be switched to; leave one of them out")
	}
	op, err := c.operator(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	begun, err := c.begin(ctx, op, s)
	if err != nil {
		return err
	}
	if c.Wait {
		if begun, err = awaitRebuild(ctx, op, s, begun); err != nil {
			return err
		}
	}
	if c.Switch {
		return (&switchModels{Models: modelsOf(begun), JSON: c.JSON, onLedger: c.onLedger}).turn(ctx, op, s, config)
	}
	return c.show(s, config, begun)
}

// begin starts what is not under way already, and returns all that is.
func (c *rebuild) begin(ctx context.Context, op operator, s streams) ([]projections.Generation, error) {
	begun, err := operate[operations.Generations](ctx, op, "rebuild-models", operations.Some{Models: c.Models})
	if fault.Code(err) != rebuildRunning {
		return latest(begun.Generations), err
	}
	all, err := operate[operations.Generations](ctx, op, "list-generations", nil)
	if err != nil {
		return nil, err
	}
	models := c.Models
	if len(models) == 0 {
		models = modelsOf(all.Generations)
	}
	var under []projections.Generation
	for _, model := range models {
		begun, err := operate[operations.Generations](ctx, op, "rebuild-models", operations.Some{Models: []string{model}})
		if fault.Code(err) == rebuildRunning {
			begun, err = underWay(ctx, op, s, model)
		}
		if err != nil {
			return nil, err
		}
		under = append(under, latest(begun.Generations)...)
	}
	return under, nil
}

// underWay is the generation of a model that is being built.
func underWay(ctx context.Context, op operator, s streams, model string) (operations.Generations, error) {
	all, err := operate[operations.Generations](ctx, op, "list-generations", nil)
	newest := slices.DeleteFunc(latest(all.Generations), func(g projections.Generation) bool { return g.Model != model })
	for _, g := range newest {
		fmt.Fprintf(s.err, "generation %d of %s is being built already\n", g.Number, model)
	}
	return operations.Generations{Generations: newest}, err
}

// rebuildRunning is the refusal to build a generation while another one is built.
const rebuildRunning = "rebuild_running"

// modelsOf are the models that generations are of, each once.
func modelsOf(all []projections.Generation) []string {
	var models []string
	for _, g := range all {
		if !slices.Contains(models, g.Model) {
			models = append(models, g.Model)
		}
	}
	return models
}

// lookEvery is how often it is looked how far a rebuild is.
const lookEvery = 200 * time.Millisecond

// settled returns once the generations that were being built, or were ready, when
// a directory was last open have caught up. A server has done so long ago.
func (o onLedger) settled(ctx context.Context, op operator, s streams) error {
	if !o.local() {
		return nil
	}
	all, err := operate[operations.Generations](ctx, op, "list-generations", nil)
	if err != nil {
		return err
	}
	_, err = awaitRebuild(ctx, op, s, slices.DeleteFunc(all.Generations, func(g projections.Generation) bool { return !isBuilding(g) }))
	return err
}

// awaitRebuild shows how far generations are until they have caught up, and
// returns them as they are then.
func awaitRebuild(ctx context.Context, op operator, s streams, begun []projections.Generation) ([]projections.Generation, error) {
	bar := newProgress(s.err)
	bar.unit = "events"
	defer bar.end()
	heard := time.Now()
	for {
		all, err := operate[operations.Generations](ctx, op, "list-generations", nil)
		switch {
		case ctx.Err() != nil:
			return nil, interrupted(ctx, op, "the rebuild")
		case err == nil:
			heard = time.Now()
			now, err := asTheyAre(begun, all.Generations)
			if err != nil || !slices.ContainsFunc(now, isBuilding) {
				return now, err
			}
			tellRebuild(bar, now)
		case !lost(err) || time.Since(heard) > silence:
			return nil, err
		default:
			bar.sayOnce("%v; asking again", err)
		}
		pauseFor(ctx, lookEvery)
	}
}

func isBuilding(g projections.Generation) bool { return g.State == projections.Building }

// asTheyAre are the generations as they are now, or why they will not catch up.
func asTheyAre(begun, all []projections.Generation) ([]projections.Generation, error) {
	now := make([]projections.Generation, len(begun))
	for i, g := range begun {
		at := slices.IndexFunc(all, func(other projections.Generation) bool { return other.Model == g.Model && other.Number == g.Number })
		if at < 0 {
			return nil, fmt.Errorf("generation %d of %s is not there any more; somebody dropped it", g.Number, g.Model)
		}
		if now[i] = all[at]; now[i].Stopped != "" {
			return nil, fmt.Errorf("generation %d of %s has stopped: %s", g.Number, g.Model, now[i].Stopped)
		}
	}
	return now, nil
}

// tellRebuild shows how far generations are, taken together.
func tellRebuild(bar *progress, now []projections.Generation) {
	var done, total uint64
	var names []string
	for _, g := range now {
		done, total = done+g.Position, total+max(g.Head, g.Position)
		names = append(names, g.Model)
		if g.Waiting != "" {
			bar.sayOnce("generation %d of %s cannot go on yet: %s", g.Number, g.Model, g.Waiting)
		}
	}
	bar.beside(paceOf(now))
	bar.at("rebuilding "+strings.Join(names, " and "), done, total)
}

// paceOf is how fast generations are built, taken together, and when the last of
// them has caught up.
func paceOf(now []projections.Generation) string {
	var rate, left float64
	for _, g := range now {
		rate, left = rate+g.Rate, max(left, g.Remaining)
	}
	if rate == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f a second, %s left", rate, time.Duration(math.Ceil(left))*time.Second)
}

// show says what there is now, and what to do with it.
func (c *rebuild) show(s streams, config *settings, now []projections.Generation) error {
	document, err := json.Marshal(operations.Generations{Generations: now})
	if err != nil {
		return err
	}
	if err := showGenerations(s.out, document, c.JSON); err != nil || c.JSON {
		return err
	}
	if !c.Wait {
		fmt.Fprintf(s.out, "\nfollow it with:\n  %s\n", config.line(append([]string{"generations"}, c.place()...)...))
		return nil
	}
	fmt.Fprintf(s.out, "\nnothing is switched yet; see what differs, and switch:\n  %s\n  %s\n",
		config.line(slices.Concat([]string{"diff"}, c.Models, c.place())...),
		config.line(slices.Concat([]string{"switch"}, c.Models, c.place())...))
	return nil
}
