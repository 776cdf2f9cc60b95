package telemetry_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/telemetry"
	"github.com/stockledger/stockledger/projections"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var quiet = slog.New(slog.DiscardHandler)

func openLedger(t testing.TB, m *telemetry.Metrics) *stockledger.Ledger {
	l, err := stockledger.Open(within(t), stockledger.Config{Dir: t.TempDir(), Store: memstore.New(), Logger: quiet, Observe: m.Commit})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// figures are what a scrape shows.
func figures(t testing.TB, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body)
	return w.Body.String()
}

func TestWhatHappensIsCounted(t *testing.T) {
	m := telemetry.NewMetrics("1.2.3")
	inner := openLedger(t, m)
	l := telemetry.Measured(inner, projections.QueryNames(), m, nil, time.Now)
	do := func(name, body string) { _, _ = l.DoJSON(within(t), commands.Envelope{}, name, []byte(body)) }
	do("create-inventory-items", `[{"id":"mug"},{"id":"cup"}]`)
	do("create-inventory-items", `{"id":"mug"}`)
	do("create-inventory-items", `{"nonsense":1}`)
	do("explode", `{}`)
	do("delete-everything", `{}`)
	_, err := l.Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err)
	_, err = l.Query(within(t), "retrieve-inventory-item", []byte(`{"id":"pot"}`))
	require.Error(t, err)
	_, err = l.Query(within(t), "nonsense", nil)
	require.Error(t, err)
	quantity := []byte(`{"inventory_item_id":"mug","location_ids":["paris"]}`)
	_, err = l.Query(within(t), "stocked-quantity", append([]byte(`{"after":2,`), quantity[1:]...))
	require.NoError(t, err)
	_, found := l.Recall("stocked-quantity", quantity)
	require.True(t, found)
	_, found = l.Recall("list-inventory-items", nil)
	require.False(t, found)
	m.Request("query-list", 200, time.Millisecond)
	m.Request("follow-events", 200, 0)
	require.NoError(t, inner.Models().WaitFor(within(t), 2))
	m.Watch(func(context.Context) (telemetry.State, error) {
		return telemetry.State{
			Leading: true, Term: 7, Head: 2, Cached: inner.Cached(), Followers: 3, Failed: true, Dir: t.TempDir(),
			Parts: []telemetry.Part{{Name: "inventory", Position: 1, Behind: 1, Stopped: true}, {Name: "feed", Position: 2}},
		}, nil
	}, quiet)
	m.Led(2 * time.Second)
	got := figures(t, m)
	for _, line := range []string{
		`stockledger_leading 1`, `stockledger_lease_term 7`, `stockledger_takeovers_total 1`, `stockledger_takeover_seconds_sum 2`,
		`stockledger_commands_total{code="ok",command="create-inventory-items"} 1`,
		`stockledger_commands_total{code="unknown_field",command="create-inventory-items"} 1`,
		`stockledger_commands_total{code="unknown_command",command="unknown"} 2`,
		`stockledger_command_seconds_count{command="create-inventory-items"} 3`,
		`stockledger_queries_total{code="ok",query="list-inventory-items"} 1`,
		`stockledger_queries_total{code="ok",query="stocked-quantity"} 2`,
		`stockledger_queries_total{code="not_found",query="retrieve-inventory-item"} 1`,
		`stockledger_queries_total{code="unknown_query",query="unknown"} 1`,
		`stockledger_commit_commands_sum 1`, `stockledger_commit_events_sum 2`, `stockledger_commit_seconds_count 1`,
		`stockledger_http_requests_total{route="query-list",status="200"} 1`,
		`stockledger_http_requests_total{route="follow-events",status="200"} 1`,
		`stockledger_http_request_seconds_count{route="query-list"} 1`,
		`stockledger_log_position 2`, `stockledger_part_behind_events{part="inventory"} 1`, `stockledger_part_stopped{part="inventory"} 1`,
		`stockledger_part_stopped{part="feed"} 0`, `stockledger_part_position{part="feed"} 2`, `stockledger_store_failed 1`,
		`stockledger_cached_streams 2`, `stockledger_http_followers 3`, `stockledger_data_bytes 0`, `stockledger_build_info{version="1.2.3"} 1`,
	} {
		require.Contains(t, got, "\n"+line+"\n")
	}
	require.Contains(t, got, "stockledger_disk_free_bytes ")
	require.Contains(t, got, "go_goroutines ")
	require.NotContains(t, got, `stockledger_http_request_seconds_count{route="follow-events"}`)
	require.NotContains(t, got, "explode", "a label is never what somebody wrote")
}

func TestAPanicIsCountedAndGoesOn(t *testing.T) {
	m := telemetry.NewMetrics("")
	l := telemetry.Measured(broken{}, nil, m, nil, time.Now)
	require.Panics(t, func() { _, _ = l.DoJSON(within(t), commands.Envelope{}, "create-inventory-items", nil) })
	require.Contains(t, figures(t, m), `stockledger_commands_total{code="internal",command="create-inventory-items"} 1`)
}

type broken struct{ telemetry.Inner }

func TestAStateThatCannotBeReadLeavesTheOtherFigures(t *testing.T) {
	m := telemetry.NewMetrics("")
	m.Watch(func(context.Context) (telemetry.State, error) { return telemetry.State{}, errors.New("away") }, quiet)
	require.Contains(t, figures(t, m), "go_goroutines ")
	require.NotContains(t, figures(t, m), "stockledger_log_position")
	require.Contains(t, figures(t, m), "\nstockledger_leading 0\n", "who leads is known also without the log")
}

func TestHowReadModelsAreIsMeasured(t *testing.T) {
	m := telemetry.NewMetrics("")
	state := telemetry.State{
		Parts:    []telemetry.Part{{Name: "inventory", Generation: 3, Stuck: true}, {Name: "feed"}},
		Rebuilds: []telemetry.Rebuild{{Model: "inventory", Done: 10, Total: 40, Rate: 2.5, Remaining: 12}},
		Walk:     &telemetry.Walk{Wrong: 2, Rounds: 5, LastRound: 1500 * time.Millisecond, Position: 7, Rows: 99, Blind: true},
	}
	m.Watch(func(context.Context) (telemetry.State, error) { return state, nil }, quiet)
	got := figures(t, m)
	for _, line := range []string{
		`stockledger_model_generation{part="inventory"} 3`, `stockledger_part_stuck{part="inventory"} 1`, `stockledger_part_stuck{part="feed"} 0`,
		`stockledger_rebuild_done_events{model="inventory"} 10`, `stockledger_rebuild_total_events{model="inventory"} 40`,
		`stockledger_rebuild_events_per_second{model="inventory"} 2.5`, `stockledger_rebuild_remaining_seconds{model="inventory"} 12`,
		`stockledger_drift_wrong_rows 2`, `stockledger_walk_rounds_total 5`, `stockledger_walk_last_round_seconds 1.5`,
		`stockledger_walk_position 7`, `stockledger_walk_rows_total 99`, `stockledger_walk_blind 1`,
	} {
		require.Contains(t, got, "\n"+line+"\n")
	}
	require.NotContains(t, got, `stockledger_model_generation{part="feed"}`)

	state.Rebuilds, state.Walk = nil, nil
	got = figures(t, m)
	require.NotContains(t, got, "stockledger_rebuild_")
	require.NotContains(t, got, "stockledger_drift_", "nobody looks, so nobody knows")
}

type asked func(name string) (any, error)

func (a asked) Operate(_ context.Context, name string, _ []byte) (any, error) { return a(name) }

func TestOperationsAreCounted(t *testing.T) {
	m := telemetry.NewMetrics("")
	o := m.Operator(asked(func(name string) (any, error) {
		switch name {
		case "polish":
			return "shiny", nil
		case "dust":
			panic("a bug")
		}
		return nil, fault.New(fault.NotFound, "unknown_operation", "none")
	}), map[string]string{"polish": "", "dust": ""})
	answer, err := o.Operate(within(t), "polish", nil)
	require.NoError(t, err)
	require.Equal(t, "shiny", answer)
	_, err = o.Operate(within(t), "explode", nil)
	require.Error(t, err)
	require.Panics(t, func() { _, _ = o.Operate(within(t), "dust", nil) })
	m.Job("sweep", nil)
	m.Job("sweep", fault.New(fault.Conflict, "no_broom", "none"))
	got := figures(t, m)
	require.Contains(t, got, `stockledger_jobs_total{code="ok",operation="sweep"} 1`)
	require.Contains(t, got, `stockledger_jobs_total{code="no_broom",operation="sweep"} 1`)
	require.Contains(t, got, `stockledger_operations_total{code="ok",operation="polish"} 1`)
	require.Contains(t, got, `stockledger_operations_total{code="internal",operation="dust"} 1`)
	require.Contains(t, got, `stockledger_operations_total{code="unknown_operation",operation="unknown"} 1`)
}

// receiver is a collector of spans.
func receiver(t *testing.T) (url string, got func() []*spans.Span) {
	received := make(chan []*spans.Span, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var all []*spans.Span
		for _, resource := range request.GetResourceSpans() {
			if !strings.Contains(resource.GetResource().String(), "stockledger") {
				t.Error("the spans do not say whose they are")
			}
			for _, scope := range resource.GetScopeSpans() {
				all = append(all, scope.GetSpans()...)
			}
		}
		received <- all
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(s.Close)
	return s.URL, func() (all []*spans.Span) {
		for len(received) > 0 {
			all = append(all, <-received...)
		}
		return all
	}
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	parent  = "b7ad6b7169203331"
	header  = "00-" + traceID + "-" + parent + "-01"
)

// A request of either transport is a span below the caller's, and what it
// recorded names that span.
func TestSpansGoFromTheRequestToTheEvents(t *testing.T) {
	url, got := receiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	exported, err := telemetry.Export(within(t), "1.2.3")
	require.NoError(t, err)
	m := telemetry.NewMetrics("")
	inner := openLedger(t, m)
	l := telemetry.Measured(inner, projections.QueryNames(), m, exported.Tracer(), time.Now)

	api, err := httpapi.Serve(within(t), httpapi.Config{
		Listen: "127.0.0.1:0", Ledger: l, Log: inner.Events(), Queries: projections.QueryNames(), Logger: quiet,
	})
	require.NoError(t, err)
	defer api.Close()
	post := func(path, body string) {
		r, err := http.NewRequestWithContext(within(t), "POST", api.URL()+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("traceparent", header)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
	defer http.DefaultClient.CloseIdleConnections()
	post("/ledger/v1/commands/create-inventory-items", `{"id":"mug"}`)
	post("/ledger/v1/commands/adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":1}`) // refused
	post("/ledger/v1/queries/list-inventory-items", `{}`)

	server, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: t.TempDir(), Logger: quiet})
	require.NoError(t, err)
	defer server.Close()
	conn, err := server.Connect()
	require.NoError(t, err)
	defer conn.Close()
	service, err := natsapi.Serve(within(t), natsapi.Config{Conn: conn, Ledger: l, Queries: projections.QueryNames(), Logger: quiet})
	require.NoError(t, err)
	defer service.Close()
	for subject, body := range map[string]string{
		"inventory.cmd.update-inventory-items": `{"id":"mug","title":"Mug"}`, "inventory.query.retrieve-inventory-item": `{"id":"mug"}`,
	} {
		_, err := conn.RequestMsgWithContext(within(t), &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{"Traceparent": {header}}})
		require.NoError(t, err)
	}
	// Without a parent, a command begins a trace of its own.
	_, err = l.DoJSON(within(t), commands.Envelope{}, "create-inventory-items", []byte(`{"id":"cup"}`))
	require.NoError(t, err)
	require.NoError(t, exported.Close(within(t)))

	named := make(map[string]*spans.Span)
	for _, span := range got() {
		if span.GetName() != "command create-inventory-items" || len(span.GetParentSpanId()) > 0 {
			require.Equal(t, traceID, hex.EncodeToString(span.GetTraceId()), span.GetName())
			require.Equal(t, parent, hex.EncodeToString(span.GetParentSpanId()), span.GetName())
			named[span.GetName()] = span
			continue
		}
		named["alone"] = span
	}
	require.Len(t, named, 6)
	require.Contains(t, named, "query list-inventory-items")
	require.Contains(t, named, "query retrieve-inventory-item")
	refused := named["command adjust-inventory-levels"]
	require.Contains(t, refused.String(), "not_found")
	require.NotEqual(t, spans.Status_STATUS_CODE_ERROR, refused.GetStatus().GetCode(), "a refusal is an answer")

	var recorded []string
	for batch, err := range inner.Events().Subscribe(within(t), 0) {
		require.NoError(t, err)
		for _, r := range batch {
			meta, err := r.Metadata()
			require.NoError(t, err)
			recorded = append(recorded, meta.Trace)
		}
		if len(recorded) == 3 {
			break
		}
	}
	for i, name := range []string{"command create-inventory-items", "command update-inventory-items", "alone"} {
		span := named[name]
		require.Equal(t, "00-"+hex.EncodeToString(span.GetTraceId())+"-"+hex.EncodeToString(span.GetSpanId())+"-01", recorded[i], name)
	}
}

func TestWhetherSpansAreWanted(t *testing.T) {
	for _, c := range []struct {
		env   map[string]string
		want  bool
		wrong string
	}{
		{nil, false, ""},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, true, ""},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, true, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, false, ""},
		{map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, false, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, false, `OTEL_TRACES_EXPORTER is "zipkin"`},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc"`},
	} {
		got, err := telemetry.Wanted(func(name string) string { return c.env[name] })
		require.Equal(t, c.want, got, "%v", c.env)
		if c.wrong != "" {
			require.ErrorContains(t, err, c.wrong)
			continue
		}
		require.NoError(t, err)
	}
	var none *telemetry.Spans
	require.Nil(t, none.Tracer())
}
