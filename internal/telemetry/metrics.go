package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stockledger/stockledger/internal/fault"
)

// seconds are the bounds of latencies: from what is in memory, 50 µs, to what
// clients no longer wait for.
var seconds = []float64{
	0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
}

// sizes are the bounds of groups, up to what one commit takes.
var sizes = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000}

// reading bounds what one scrape may take.
const reading = 5 * time.Second

// Metrics are the figures of one ledger.
type Metrics struct {
	registry     *prometheus.Registry
	commands     *prometheus.CounterVec
	commandTook  *prometheus.HistogramVec
	queries      *prometheus.CounterVec
	queryTook    *prometheus.HistogramVec
	operations   *prometheus.CounterVec
	jobs         *prometheus.CounterVec
	commitTook   prometheus.Histogram
	commitSize   prometheus.Histogram
	commitEvents prometheus.Histogram
	requests     *prometheus.CounterVec
	requestTook  *prometheus.HistogramVec
	takeovers    prometheus.Counter
	takeoverTook prometheus.Histogram
}

// NewMetrics makes the figures of a ledger, all at zero.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m.commands = counter("stockledger_commands_total", "Commands by name and by the code of their outcome, ok if they were accepted.", "command", "code")
	m.commandTook = histogram("stockledger_command_seconds", "From a command to its outcome.", seconds, "command")
	m.queries = counter("stockledger_queries_total", "Queries by name and by the code of their outcome.", "query", "code")
	m.queryTook = histogram("stockledger_query_seconds", "From a query to its answer.", seconds, "query")
	m.operations = counter("stockledger_operations_total", "Requests for operations by name and by the code of their outcome; of one that is a job, of its start.", "operation", "code")
	m.jobs = counter("stockledger_jobs_total", "Jobs that have ended, by their operation and by the code of their outcome.", "operation", "code")
	m.requests = counter("stockledger_http_requests_total", "Requests over HTTP by route and status.", "route", "status")
	m.requestTook = histogram("stockledger_http_request_seconds", "From a request over HTTP to its answer.", seconds, "route")
	plain := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m.commitTook = plain("stockledger_commit_seconds", "To make one group of commands durable.", seconds)
	m.commitSize = plain("stockledger_commit_commands", "Commands made durable together.", sizes)
	m.commitEvents = plain("stockledger_commit_events", "Events made durable together.", sizes)
	m.takeovers = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "stockledger_takeovers_total", Help: "How often this node has begun to lead those that share its log.",
	})
	m.takeoverTook = plain("stockledger_takeover_seconds", "From the lease to commands being served, of a node that begins to lead.", seconds)
	built := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "stockledger_build_info", Help: "Is 1."}, []string{"version"})
	built.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.commands, m.commandTook, m.queries, m.queryTook, m.operations, m.jobs, m.requests, m.requestTook,
		m.commitTook, m.commitSize, m.commitEvents, m.takeovers, m.takeoverTook, built,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// outcome is the code of an error, ok for none.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return fault.Code(err)
}

func (m *Metrics) command(name string, took time.Duration, err error) {
	m.commands.WithLabelValues(name, outcome(err)).Inc()
	m.commandTook.WithLabelValues(name).Observe(took.Seconds())
}

func (m *Metrics) query(name string, took time.Duration, err error) {
	m.queries.WithLabelValues(name, outcome(err)).Inc()
	m.queryTook.WithLabelValues(name).Observe(took.Seconds())
}

// Commit counts a group of commands that was made durable.
func (m *Metrics) Commit(commands, events int, took time.Duration) {
	m.commitTook.Observe(took.Seconds())
	m.commitSize.Observe(float64(commands))
	m.commitEvents.Observe(float64(events))
}

// Request counts an answer over HTTP. Route is one of the server's names. An
// answer that took no time is one that streams, and is not timed.
func (m *Metrics) Request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	if took > 0 {
		m.requestTook.WithLabelValues(route).Observe(took.Seconds())
	}
}

// Led counts that this node has begun to lead, and how long that took from the
// lease to the first command that it could have served.
func (m *Metrics) Led(took time.Duration) {
	m.takeovers.Inc()
	m.takeoverTook.Observe(took.Seconds())
}

// State is how a ledger is now.
type State struct {
	Leading   bool   // it carries out commands
	Term      uint64 // of the lease, as far as is known; 0: there is none
	Head      uint64 // position of the newest event
	Parts     []Part // what follows the log
	Failed    bool   // the store has stopped for good
	Cached    int    // aggregates in memory
	Followers int    // over HTTP
	Dir       string // of the data
	Rebuilds  []Rebuild
	Walk      *Walk // nil: nobody compares rows with the log
}

// A Part follows the log: a read model, or the feed.
type Part struct {
	Name     string
	Position uint64
	Behind   uint64 // events it has to go
	Stopped  bool
	Stuck    bool // it has to go on, and has not moved for some time
	// Generation of a read model that is served; 0 for what has none.
	Generation int
}

// A Rebuild is a generation of a read model that is being built.
type Rebuild struct {
	Model       string
	Done, Total uint64  // events
	Rate        float64 // events per second
	Remaining   float64 // seconds
}

// A Walk compares the rows of the read models with the log, over and over.
type Walk struct {
	Wrong     uint64 // rows now, as far as it knows
	Rounds    uint64 // that are complete
	LastRound time.Duration
	Position  uint64 // of the log that it has come to in this round
	Rows      uint64 // it has compared so far
	Blind     bool   // it cannot look
}

// Watch has every scrape ask how the ledger is.
func (m *Metrics) Watch(state func(context.Context) (State, error), logger *slog.Logger) {
	m.registry.MustRegister(&watcher{state, logger})
}

// watcher turns the state of a ledger into figures when they are asked for.
type watcher struct {
	state  func(context.Context) (State, error)
	logger *slog.Logger
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("stockledger_"+name, help, labels, nil)
}

var (
	headGauge      = gauge("log_position", "Position of the newest event.")
	positionGauge  = gauge("part_position", "Position of the last event that a part has folded or published.", "part")
	behindGauge    = gauge("part_behind_events", "How many events a part is behind the log.", "part")
	stoppedGauge   = gauge("part_stopped", "Is 1 while a part cannot go on.", "part")
	failedGauge    = gauge("store_failed", "Is 1 when the event store has stopped for good.")
	cachedGauge    = gauge("cached_streams", "Aggregates in memory.")
	followersGauge = gauge("http_followers", "Clients that follow the events over HTTP.")
	dataGauge      = gauge("data_bytes", "Bytes in the files of the data directory.")
	stuckGauge     = gauge("part_stuck", "Is 1 while a part is behind the log and does not move.", "part")
	generatedGauge = gauge("model_generation", "The generation of a read model that is served.", "part")
	doneGauge      = gauge("rebuild_done_events", "Events that a generation being built has folded.", "model")
	totalGauge     = gauge("rebuild_total_events", "Events that it has to fold altogether.", "model")
	rateGauge      = gauge("rebuild_events_per_second", "How fast it folds them.", "model")
	remainingGauge = gauge("rebuild_remaining_seconds", "When it has caught up, estimated.", "model")
	wrongGauge     = gauge("drift_wrong_rows", "Rows of the read models that are not what the log says.")
	roundsGauge    = gauge("walk_rounds_total", "How often the walk has been over all rows.")
	roundGauge     = gauge("walk_last_round_seconds", "How long it took the last time.")
	walkedGauge    = gauge("walk_position", "How far it is in the log this time.")
	comparedGauge  = gauge("walk_rows_total", "Rows it has compared.")
	blindGauge     = gauge("walk_blind", "Is 1 while the walk cannot look.")
	leadingGauge   = gauge("leading", "Is 1 while this node carries out the commands.")
	termGauge      = gauge("lease_term", "Term of the lease that decides which node leads: it grows whenever the lease is set, and is 0 where no nodes share a log.")
	freeGauge      = gauge("disk_free_bytes", "Bytes free for the ledger on the disk of the data directory.")
	diskGauge      = gauge("disk_bytes", "Bytes of the disk of the data directory.")
)

// Describe implements prometheus.Collector.
func (w *watcher) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		headGauge, positionGauge, behindGauge, stoppedGauge, failedGauge, cachedGauge, followersGauge, dataGauge, freeGauge, diskGauge,
		stuckGauge, generatedGauge, doneGauge, totalGauge, rateGauge, remainingGauge,
		wrongGauge, roundsGauge, roundGauge, walkedGauge, comparedGauge, blindGauge, leadingGauge, termGauge,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (w *watcher) Collect(to chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	truth := map[bool]float64{true: 1}
	ctx, cancel := context.WithTimeout(context.Background(), reading)
	defer cancel()
	state, err := w.state(ctx)
	set(leadingGauge, truth[state.Leading]) // known also while the log cannot be reached
	set(termGauge, float64(state.Term))
	if err != nil {
		w.logger.Warn("the state of the ledger cannot be measured", "err", err)
		return
	}
	set(headGauge, float64(state.Head))
	for _, p := range state.Parts {
		set(positionGauge, float64(p.Position), p.Name)
		set(behindGauge, float64(p.Behind), p.Name)
		set(stoppedGauge, truth[p.Stopped], p.Name)
		set(stuckGauge, truth[p.Stuck], p.Name)
		if p.Generation > 0 {
			set(generatedGauge, float64(p.Generation), p.Name)
		}
	}
	for _, r := range state.Rebuilds {
		set(doneGauge, float64(r.Done), r.Model)
		set(totalGauge, float64(r.Total), r.Model)
		set(rateGauge, r.Rate, r.Model)
		set(remainingGauge, r.Remaining, r.Model)
	}
	if at := state.Walk; at != nil {
		count := func(d *prometheus.Desc, value uint64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
		}
		set(wrongGauge, float64(at.Wrong))
		set(roundGauge, at.LastRound.Seconds())
		set(walkedGauge, float64(at.Position))
		set(blindGauge, truth[at.Blind])
		count(roundsGauge, at.Rounds)
		count(comparedGauge, at.Rows)
	}
	set(failedGauge, truth[state.Failed])
	set(cachedGauge, float64(state.Cached))
	set(followersGauge, float64(state.Followers))
	if size, err := filesIn(state.Dir); err == nil {
		set(dataGauge, float64(size))
	}
	if free, size, err := diskOf(state.Dir); err == nil {
		set(freeGauge, float64(free))
		set(diskGauge, float64(size))
	}
}

// Handler serves the figures.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
