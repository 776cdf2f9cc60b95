package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/lease"
)

// inUse begins to watch a log for a ledger that carries out commands on it, which
// what it returns tells. A log in a file is nobody else's while it is open.
func inUse(ctx context.Context, log events.Store) (func(context.Context) (bool, error), error) {
	shared, ok := log.(events.Shared)
	if !ok {
		return func(context.Context) (bool, error) { return false, nil }, nil
	}
	register, err := shared.Register(ctx, leaseName)
	if err != nil {
		return nil, err
	}
	_, before, err := register.Get(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	return func(ctx context.Context) (bool, error) {
		// Whoever leads renews the lease within its life, and on a busy machine not
		// much sooner.
		for {
			_, now, err := register.Get(ctx)
			if err != nil || now != before || before == 0 || time.Since(began) > lease.DefaultTTL {
				return now != before, err
			}
			pauseFor(ctx, lease.DefaultTTL/30)
		}
	}, nil
}

// leaseTries bounds how often work is begun again that lost the lease: on a machine
// that is too busy to renew it in time, nobody else may want it.
const leaseTries = 10

// alone works on a log while no ledger carries out commands on it, nor another
// copy is made to it: it has the lease all the while. A ledger that is started
// meanwhile stands by. Work that loses the lease ends with its context, and begins
// again once the lease is back.
func alone(ctx context.Context, log events.Store, work func(context.Context) error) error {
	shared, ok := log.(events.Shared)
	if !ok {
		return work(ctx)
	}
	register, err := shared.Register(ctx, leaseName)
	if err != nil {
		return err
	}
	name, _ := os.Hostname()
	contest := lease.New(lease.Config{Register: register, Node: fmt.Sprintf("copy-log of process %d on %s", os.Getpid(), name), Logger: untold})
	trying, stop := context.WithCancel(ctx)
	defer stop()
	// The lease of one that died is free after its life.
	const patience = 3 * lease.DefaultTTL
	late := time.AfterFunc(patience, stop)
	worked, tries := false, 0
	_ = contest.Run(trying, func(leading context.Context) error {
		if !late.Stop() {
			return nil
		}
		worked, tries = true, tries+1
		if err = work(leading); err != nil && leading.Err() != nil && ctx.Err() == nil && tries < leaseTries {
			late.Reset(patience)
			return nil
		}
		stop()
		return nil
	})
	switch holder := contest.Holder(); {
	case worked || ctx.Err() != nil:
		return cmp.Or(err, ctx.Err())
	case holder.Node == "":
		return errors.New("its lease cannot be had")
	default:
		return fault.New(fault.Conflict, "target_in_use", "%s has the target: stop it, and copy again", holder.Node).With("node", holder.Node)
	}
}
