package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	neturl "net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/lease"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A rank is what a host is among the nodes of its ledger: the one that carries out
// the commands, or a standby that follows the log until it is its turn. A ledger
// whose log is its own has one node, which leads from its start to its end.
type rank struct {
	node   string
	shared bool      // with other nodes
	since  time.Time // the ledger was opened

	lease atomic.Pointer[lease.Lease] // nil: it does not compete for one, or not yet
	at    atomic.Pointer[string]      // where others find its HTTP; nil: nowhere yet
	leads atomic.Bool
	feed  atomic.Pointer[natsapi.Feed] // nil: it is not served here
	// missing is what a node that leads has not opened yet, by name, and why: texts.
	missing sync.Map

	// settled is closed once it leads with all that belongs to it for the first time.
	settled chan struct{}
	settle  sync.Once
	// ended gets why this node can lead no more, which waiting does not mend.
	ended chan error
}

// begin is what is known from the start.
func (r *rank) begin(config hostConfig) {
	r.node, r.shared, r.since = cmp.Or(config.node, defaultNode()), config.shared, time.Now().UTC()
	r.settled, r.ended = make(chan struct{}), make(chan error, 1)
}

// leaseName is the register of the lease beside the log.
const leaseName = "lease"

// compete has this node lead whenever it holds the lease, until the host is closed,
// and returns once it is known which node leads.
func (h *host) compete(ctx context.Context, config hostConfig) error {
	shared, ok := h.ledger.Events().(events.Shared)
	if !ok {
		return fmt.Errorf("several nodes cannot share a store of the kind %s", config.kind)
	}
	register, err := shared.Register(ctx, leaseName)
	if err != nil {
		return fmt.Errorf("the lease: %w", err)
	}
	contest := lease.New(lease.Config{
		Register: register, Node: h.node, TTL: config.leaseTTL, Logger: config.logger,
		Info: map[string]string{"http_url": h.foundAt()}, Ready: h.ledger.Warm,
	})
	h.lease.Store(contest)
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if err := contest.Run(life, func(ctx context.Context) error { return h.lead(ctx, config) }); err != nil {
			config.logger.Warn("the lease was not given back; another node takes over once it has run out", "err", err)
		}
	})
	h.opened(func() error {
		stop()
		running.Wait()
		return nil
	})
	return h.knowsWhoLeads(ctx, config)
}

// knowsWhoLeads waits until this node leads or knows who else does. When nobody can
// tell for long, it goes on all the same: queries are answered.
func (h *host) knowsWhoLeads(ctx context.Context, config hostConfig) error {
	const often = 10 * time.Millisecond
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	for deadline := time.Now().Add(serveWithin); time.Now().Before(deadline); {
		select {
		case <-h.settled:
			return nil
		case err := <-h.ended:
			return err
		case <-h.ledger.Failed():
			return errStoreStopped
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if leader := h.lease.Load().Holder().Node; leader != "" && leader != h.node {
				return nil
			}
		}
	}
	config.logger.Warn("no node leads yet; this one answers queries, and takes commands once it does")
	return nil
}

// lead carries out commands until ctx ends, which is when the lease is lost or the
// host is closed. The feed and the submissions follow as soon as NATS has their
// streams; commands do not wait for them.
func (h *host) lead(ctx context.Context, config hostConfig) (err error) {
	began := time.Now()
	var open term
	defer func() {
		err = errors.Join(err, h.standDown(config, &open))
		if err != nil && ctx.Err() == nil && !mayPass(err) {
			h.end(err)
		}
	}()
	if err := h.ledger.Lead(ctx, h.held); err != nil {
		return fmt.Errorf("catch up with the log: %w", err)
	}
	if err := await(ctx, "NATS to take commands", h.url, config.logger, open.opening(h.serveCommands, config)); err != nil {
		return err
	}
	h.leads.Store(true)
	h.metrics.Led(time.Since(began))
	config.logger.Info("this node carries out the commands", "node", h.node, "term", h.leader().Term, "took", time.Since(began))
	behind, stop := context.WithCancel(ctx)
	defer stop()
	open.parts.Go(func() { h.follow(behind, "feed", open.opening(h.serveFeed, config), config.logger) })
	open.parts.Go(func() { h.follow(behind, "submissions", open.opening(h.serveSubmissions, config), config.logger) })
	settled := make(chan struct{})
	go func() {
		open.parts.Wait()
		close(settled)
	}()
	for {
		select {
		case <-settled:
			h.settle.Do(func() { close(h.settled) })
			settled = nil
		case <-ctx.Done():
			return nil
		case <-h.ledger.Failed():
			return errStoreStopped
		}
	}
}

// A term is what a node has opened to lead, for as long as it does.
type term struct {
	parts sync.WaitGroup // that are being opened

	mu      sync.Mutex
	closers []func() error
}

// A part is opened, and closed by what it returns.
type part func(context.Context, hostConfig) (func() error, error)

// opening tries once to open a part, and remembers to close it.
func (t *term) opening(open part, config hostConfig) func(context.Context) error {
	return func(ctx context.Context) error {
		closePart, err := open(ctx, config)
		if err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closers = append(t.closers, closePart)
		return nil
	}
}

// close closes what was opened, the last first.
func (t *term) close() error {
	t.parts.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, closeOne := range slices.Backward(t.closers) {
		errs = append(errs, closeOne())
	}
	return errors.Join(errs...)
}

// follow opens what goes with the commands, however long that takes. What cannot be
// opened is said in the status and the log; commands go on without it.
func (h *host) follow(ctx context.Context, what string, open func(context.Context) error, logger *slog.Logger) {
	for {
		h.missing.Store(what, "it is not open yet")
		err := await(ctx, "NATS for the "+what, h.url, logger, open)
		switch {
		case err == nil:
			h.missing.Delete(what)
			return
		case ctx.Err() != nil:
			return
		case !mayPass(err):
			h.missing.Store(what, err.Error())
			logger.Error("commands are carried out without the "+what, "err", err)
			return
		}
	}
}

// restWithin is how long a node that leads no more waits for the answer of the store
// to what it has handed to it: longer than a store looks for one.
const restWithin = 15 * time.Second

// standDown closes what was opened to lead. As long as the lease is held, what is
// under way is answered first; once it is lost, another node may be carrying out
// the same, and nothing here is to go on.
func (h *host) standDown(config hostConfig, open *term) error {
	h.leads.Store(false)
	var errs []error
	rest := func() {
		ctx, cancel := context.WithTimeout(context.Background(), restWithin)
		defer cancel()
		if err := h.ledger.Rest(ctx); err != nil {
			config.logger.Warn("this node did not come to rest in order", "node", h.node, "err", err)
			errs = append(errs, err)
		}
	}
	lost := h.held() != nil
	if lost {
		rest()
	}
	errs = append(errs, open.close())
	if !lost {
		rest()
	}
	h.missing.Clear()
	config.logger.Info("this node stands by", "node", h.node)
	return errors.Join(errs...)
}

// end says why this node must end. The first reason is the one that counts.
func (h *host) end(err error) {
	select {
	case h.ended <- err:
	default:
	}
}

// leadAlone carries out commands for as long as the host is open.
func (h *host) leadAlone(ctx context.Context, config hostConfig) error {
	for _, open := range []part{h.serveFeed, h.serveSubmissions, h.serveCommands} {
		closePart, err := open(ctx, config)
		if err != nil {
			return err
		}
		h.opened(closePart)
	}
	h.leads.Store(true)
	h.settle.Do(func() { close(h.settled) })
	return nil
}

// serveFeed publishes the feed until what it returns is called.
func (h *host) serveFeed(ctx context.Context, config hostConfig) (func() error, error) {
	feed, err := natsapi.ServeFeed(ctx, natsapi.FeedConfig{
		Conn: h.conn, Log: h.ledger.Events(), Prefix: config.prefix, Replicas: config.replicas, Logger: config.logger,
	})
	if err != nil {
		return nil, err
	}
	h.feed.Store(feed)
	return func() error {
		if h.shared { // who asks for the status while the only node is closed still hears of it
			h.feed.Store(nil)
		}
		return feed.Close()
	}, nil
}

// serveSubmissions carries out what is submitted until what it returns is called.
func (h *host) serveSubmissions(ctx context.Context, config hostConfig) (func() error, error) {
	submissions, err := natsapi.ServeSubmissions(ctx, natsapi.SubmitConfig{
		Conn: h.conn, Ledger: h.served, Prefix: config.prefix, Replicas: config.replicas, Logger: config.logger,
	})
	if err != nil {
		return nil, err
	}
	return submissions.Close, nil
}

// serveCommands answers commands and operations over NATS until what it returns is
// called.
func (h *host) serveCommands(ctx context.Context, config hostConfig) (func() error, error) {
	service, err := natsapi.ServeCommands(ctx, h.natsConfig(config))
	if err != nil {
		return nil, err
	}
	return service.Close, nil
}

// held is nil while this node may carry out commands.
func (h *host) held() error {
	if contest := h.lease.Load(); contest != nil {
		return contest.Held()
	}
	return nil
}

// leader is who carries out the commands, as far as is known; nil is nobody.
func (h *host) leader() *leaderStatus {
	if !h.shared {
		return &leaderStatus{Node: h.node, HTTPURL: h.foundAt(), Since: h.since}
	}
	contest := h.lease.Load()
	if contest == nil {
		return nil
	}
	holder := contest.Holder()
	if holder.Node == "" {
		return nil
	}
	return &leaderStatus{Node: holder.Node, HTTPURL: holder.Info["http_url"], Since: holder.Since, Term: holder.Revision}
}

// role is what this node is among those that share the log.
func (h *host) role() string {
	if h.leads.Load() {
		return httpapi.Leading
	}
	return httpapi.Standby
}

// codeStandby is the code of a command that this node does not carry out because it
// does not lead.
const codeStandby = "standby"

// standby is why this node carries out no commands now, nil while it does.
func (h *host) standby() error {
	if h.leads.Load() {
		return nil
	}
	return h.refusal()
}

// refusal says that this node does not lead, and who does.
func (h *host) refusal() error {
	leader := h.leader()
	if leader == nil || leader.Node == h.node {
		return fault.New(fault.Unavailable, codeStandby,
			"no node carries out commands at this moment; send it again, with the same key").With("node", h.node)
	}
	return fault.New(fault.Unavailable, codeStandby,
		"this node, %s, stands by, and %s carries out the commands; send it there, or here again with the same key", h.node, leader.Node).
		With("node", h.node).With("active", leader.Node).With("http_url", leader.HTTPURL)
}

// foundAt is where others find this node on HTTP, "" if nowhere.
func (h *host) foundAt() string {
	if at := h.at.Load(); at != nil {
		return *at
	}
	return ""
}

// reachable is where clients on other machines find a node that listens on HTTP, as
// far as it can tell. One that listens on all addresses goes by the name of its
// machine.
func reachable(listen, url string) string {
	host, _, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return url
	}
	name, err := os.Hostname()
	at, parseErr := neturl.Parse(url)
	if err != nil || parseErr != nil {
		return url
	}
	return "http://" + net.JoinHostPort(name, at.Port())
}

// defaultNode is a name for this process that no other one has at the same time.
func defaultNode() string {
	name, err := os.Hostname()
	if err != nil {
		name = "node"
	}
	return fmt.Sprintf("%s-%d", cmp.Or(name, "node"), os.Getpid())
}
