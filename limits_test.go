package stockledger_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/doctest"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/medusaapi"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// outside is a ledger as those see it who send requests.
type outside struct {
	ledger *stockledger.Ledger
	url    string
	nats   *nats.Conn
}

func openOutside(t *testing.T) *outside {
	logger := slog.New(slog.DiscardHandler)
	ledger, err := stockledger.Open(t.Context(), stockledger.Config{Dir: t.TempDir(), Store: memstore.New(), Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { _ = ledger.Close() })
	server, err := httpapi.Serve(t.Context(), httpapi.Config{
		Listen: "127.0.0.1:0", Ledger: ledger, Log: ledger.Events(), Queries: ledger.QueryNames(),
		Routes: medusaapi.Routes(ledger, medusaapi.Config{}), Logger: logger,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	broker, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: t.TempDir(), Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	conn, err := broker.Connect()
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	service, err := natsapi.Serve(t.Context(), natsapi.Config{Conn: conn, Ledger: ledger, Queries: ledger.QueryNames(), Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { _ = service.Close() })
	return &outside{ledger: ledger, url: server.URL(), nats: conn}
}

// A refusal as it came, and what HTTP says of it.
type answered struct {
	fault.Answer
	status int
}

// send sends a request over HTTP. What is not refused has no code.
func (o *outside) send(t *testing.T, method, path string, body io.Reader, header ...string) (a answered) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, o.url+path, body)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	return readAnswer(t, answer)
}

func readAnswer(t *testing.T, answer *http.Response) (a answered) {
	t.Helper()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	if a.status = answer.StatusCode; a.status >= 400 {
		require.NoError(t, json.Unmarshal(text, &a.Answer), "%s", text)
		require.NotEmpty(t, a.Message)
	}
	return a
}

// A probe asks for so much of something.
type probe func(t *testing.T, o *outside, n int) answered

func sending(name string, body func(n int) string, header ...string) probe {
	return func(t *testing.T, o *outside, n int) answered {
		return o.send(t, "POST", "/ledger/v1/commands/"+name, strings.NewReader(body(n)), append(header, "Ledger-Dry-Run", "true")...)
	}
}

func asking(name string, body func(n int) string) probe {
	return func(t *testing.T, o *outside, n int) answered {
		return o.send(t, "POST", "/ledger/v1/queries/"+name, strings.NewReader(body(n)))
	}
}

// header sends a command with a header of n bytes.
func header(name string) probe {
	return func(t *testing.T, o *outside, n int) answered {
		return sending("delete-inventory-items", func(int) string { return `"nope"` }, name, strings.Repeat("x", n))(t, o, n)
	}
}

// get asks a URL that n is made part of.
func get(path func(n int) string) probe {
	return func(t *testing.T, o *outside, n int) answered { return o.send(t, "GET", path(n), nil) }
}

// with is a text with %s for n letters.
func with(format string) func(int) string {
	return func(n int) string { return fmt.Sprintf(format, strings.Repeat("x", n)) }
}

// number is a text with %d for n.
func number(format string) func(int) string {
	return func(n int) string { return fmt.Sprintf(format, n) }
}

// several is a text with %s for n times part, in which %d counts.
func several(format, part string) func(int) string {
	return func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = strings.ReplaceAll(part, "%d", strconv.Itoa(i))
		}
		return fmt.Sprintf(format, strings.Join(parts, ","))
	}
}

// nestings is begin n times, what is in the middle, and end n times.
func nestings(n int, begin, middle, end string) string {
	return strings.Repeat(begin, n) + middle + strings.Repeat(end, n)
}

// byNATS sends a query of n bytes over NATS.
func byNATS(t *testing.T, o *outside, n int) (a answered) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := o.nats.RequestWithContext(ctx, "inventory.query.list-inventory-items", []byte(padded(n)))
	require.NoError(t, err)
	if code := m.Header.Get("Nats-Service-Error-Code"); code != "" {
		require.NoError(t, json.Unmarshal(m.Data, &a.Answer))
	}
	return a
}

func padded(n int) string { return "{}" + strings.Repeat(" ", n-2) }

// rawRequest is one of n bytes of URL and headers, as they are counted.
func rawRequest(t *testing.T, o *outside, n int) answered {
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(o.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	const counted = "GET" + "/ledger/v1/queries/list-inventory-items" + "localhost" + "X: \r\n"
	_, err = fmt.Fprintf(conn, "GET /ledger/v1/queries/list-inventory-items HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", n-len(counted)))
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer answer.Body.Close()
	return readAnswer(t, answer)
}

const (
	createItems = "create-inventory-items"
	listItems   = "list-inventory-items"
)

// probes are how each limit of a request is reached, by its name in the document.
var probes = map[string][]probe{
	"body of a command, a query or an operation over NATS": {byNATS},
	"body of a command, a query or an operation over HTTP": {
		asking(listItems, padded), sending("adjust-inventory-levels", padded),
		func(t *testing.T, o *outside, n int) answered { // of a length that is not said
			return o.send(t, "POST", "/ledger/v1/queries/"+listItems, io.MultiReader(strings.NewReader(padded(n))))
		},
	},
	"URL and headers of a request over HTTP": {rawRequest},
	"lines of a command": {
		sending("delete-inventory-items", several(`[%s]`, `"a%d"`)),
		sending("adjust-inventory-levels", several(`{"updates":[%s]}`, `{"inventory_item_id":"a","location_id":"p","adjustment":1}`)),
	},
	"id, SKU, line item id, idempotency key": {
		sending(createItems, with(`{"id":"%s"}`)), sending(createItems, with(`{"sku":"%s"}`)), header("Idempotency-Key"),
		sending("create-reservations", with(`{"inventory_item_id":"a","location_id":"p","quantity":1,"line_item_id":"%s"}`)),
	},
	"actor, reason, reference, correlation, causation, trace": {
		header("Ledger-Actor"), header("Ledger-Reason"), header("Ledger-Reference"), header("Ledger-Correlation-Id"),
		header("Ledger-Causation-Id"), header("traceparent"),
	},
	"title, description and other texts": {
		sending(createItems, with(`{"title":"%s"}`)), sending(createItems, with(`{"description":"%s"}`)),
	},
	"metadata of one item, level, reservation or location": {
		sending(createItems, func(n int) string { return with(`{"metadata":{"a":"%s"}}`)(n - len(`{"a":""}`)) }),
	},
	"metadata, one object or array in another": {
		sending(createItems, func(n int) string { return `{"metadata":` + nestings(n, `{"a":`, `1`, `}`) + `}` }),
		sending(createItems, func(n int) string { return `{"metadata":{"a":` + nestings(n-1, `[`, ``, `]`) + `}}` }),
	},
	"digits of a quantity": {
		sending("adjust-inventory-levels", func(n int) string {
			return `{"inventory_item_id":"a","location_id":"p","adjustment":` + strings.Repeat("1", n) + `}`
		}),
	},
	"rows of a page (`take`)":                       {asking(listItems, number(`{"take":%d}`)), asking("list-refusals", number(`{"take":%d}`))},
	"rows that are passed over (`skip`)":            {asking(listItems, number(`{"skip":%d}`))},
	"conditions of a query":                         {asking(listItems, several(`{"$or":[%s]}`, `{"sku":"a%d"}`))},
	"selectors, one in another":                     {asking(listItems, func(n int) string { return nestings(n-1, `{"$and":[`, `{}`, `]}`) })},
	"values of one list of a selector, such as ids": {asking(listItems, several(`{"id":[%s]}`, `"a%d"`))},
	"values of one filter of `stock-history`":       {asking("stock-history", several(`{"reference":[%s]}`, `"a%d"`))},
	"variants of one `variant-availability`":        {asking("variant-availability", several(`{"variant_ids":[%s]}`, `"a%d"`))},
	"pattern of `$like`, `$ilike`, `$re`, `$contains` and their kin": {
		asking(listItems, with(`{"sku":{"$like":"%s"}}`)), asking(listItems, with(`{"sku":{"$re":"%s"}}`)),
		asking(listItems, with(`{"sku":{"$contains":"%s"}}`)), asking(listItems, with(`{"sku":{"starts_with":"%s"}}`)),
	},
	"regular expressions of a query": {asking(listItems, several(`{"$or":[%s]}`, `{"sku":{"$re":"a%d"}}`))},
	"words to search for (`q`)":      {asking(listItems, with(`{"q":"%s"}`))},
	"lines of a basket (`confirm-inventory`)": {
		asking("confirm-inventory", several(`{"lines":[%s]}`, `{"inventory_item_id":"a","location_ids":["p"],"quantity":1}`)),
	},
	"locations of a basket": {
		asking("confirm-inventory", several(`{"lines":[{"inventory_item_id":"a","quantity":1,"location_ids":[%s]}]}`, `"p%d"`)),
	},
	"depth of a parameter in a URL, `a[b][c]=`": {
		get(func(n int) string {
			return "/ledger/v1/queries/" + listItems + "?sku" + strings.Repeat("[x]", n-1) + "=1"
		}),
	},
	"rows of a page of Medusa's routes (`limit`)": {get(number("/admin/inventory-items?limit=%d"))},
	"parameters of Medusa's routes": {
		get(func(n int) string {
			return "/admin/inventory-items?" + strings.TrimPrefix(strings.Repeat("&id=a", n), "&")
		}),
	},
}

var digits = regexp.MustCompile(`[0-9][0-9,]*`)

// What the document says is allowed is allowed, and one more is refused: with the
// code that the document says, with the limit where it is said, and changing nothing.
func TestLimitsAreWhatTheDocumentSays(t *testing.T) {
	o := openOutside(t)
	rows := doctest.Rows(t, "docs/operations.md", "Limits")
	for what, ways := range probes {
		require.Contains(t, rows, what)
		most, err := strconv.Atoi(strings.ReplaceAll(digits.FindString(rows[what][1]), ",", ""))
		require.NoError(t, err, what)
		code := strings.Split(rows[what][2], "`")[1]
		for i, ask := range ways {
			t.Run(fmt.Sprintf("%s %d", what, i+1), func(t *testing.T) {
				head, err := o.ledger.Events().Head(t.Context())
				require.NoError(t, err)
				within := ask(t, o, most)
				require.NotContains(t, []string{within.Code, within.Type}, code, "%d: %s", most, within.Message)
				over := ask(t, o, most+1)
				if over.Code == "" { // Medusa has no codes, and no details
					require.Equal(t, code, over.Type)
				} else {
					require.Equal(t, code, over.Code, over.Message)
					require.Equal(t, fault.Invalid.String(), over.Type)
				}
				for _, limit := range []string{"limit", "max"} {
					if said, found := over.Details[limit]; found {
						require.InDelta(t, most, said, 0)
					}
				}
				now, err := o.ledger.Events().Head(t.Context())
				require.NoError(t, err)
				require.Equal(t, head, now)
			})
		}
	}
}

// Bodies that are far too large, or never end, are refused without being held.
func TestWhatIsTooLargeIsNotHeld(t *testing.T) {
	o := openOutside(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 8 {
		endless := io.LimitReader(forever('['), 1<<30)
		r, err := http.NewRequestWithContext(t.Context(), "POST", o.url+"/ledger/v1/commands/"+createItems, endless)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			continue // cut off while it sent
		}
		require.Equal(t, http.StatusRequestEntityTooLarge, answer.StatusCode)
		require.NoError(t, answer.Body.Close())
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<20), "64 MiB of each that was sent, and never all of it at once")
}

// forever is one byte again and again.
type forever byte

func (f forever) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(f)
	}
	return len(b), nil
}
