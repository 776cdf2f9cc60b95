package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/race"
)

// followerOf names the ledger that a process of this binary follows instead of
// running tests.
const followerOf = "HTTPAPI_TEST_FOLLOW"

func TestMain(m *testing.M) {
	if url := os.Getenv(followerOf); url != "" {
		if err := followToTheEnd(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	openapi3filter.RegisterBodyDecoder("text/event-stream", func(body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		text, err := io.ReadAll(body)
		return string(text), err
	})
	goleak.VerifyTestMain(m)
}

// lines are the lines of the events at a path, until they end.
func (s *shop) lines(t testing.TB, path string, header ...string) []string {
	t.Helper()
	m := s.ask(t, "GET", "/ledger/v1/events"+path, "", header...)
	require.Equal(t, 200, m.status, m.body)
	require.Equal(t, "text/event-stream", m.header.Get("Content-Type"))
	return strings.Split(m.body, "\n")
}

// ids are the positions in lines of events.
func ids(lines []string) (all []string) {
	for _, line := range lines {
		if id, found := strings.CutPrefix(line, "id: "); found {
			all = append(all, id)
		}
	}
	return all
}

func TestEventsComeInLogOrder(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	s.command(t, "adjust-inventory-levels", oneOff)
	lines := s.lines(t, "?follow=false")
	require.Equal(t, []string{"1", "2", "3"}, ids(lines))
	var last httpapi.Event
	at := 0
	for _, line := range lines {
		data, found := strings.CutPrefix(line, "data: ")
		if !found {
			continue
		}
		require.NoError(t, json.Unmarshal([]byte(data), &last))
		require.Contains(t, lines, "event: "+last.Type)
		recorded := logged(t, s.ledger.Events())[at]
		require.Equal(t, recorded.Position, last.Position)
		require.Equal(t, recorded.Hash, last.Hash)
		require.JSONEq(t, string(recorded.Data), string(last.Data))
		at++
	}
	require.Equal(t, "10", last.Before[0].Stocked.String())
	require.Equal(t, "9", last.After[0].Stocked.String())
	require.Equal(t, "adjust-inventory-levels", last.Command)

	require.Equal(t, []string{"3"}, ids(s.lines(t, "?follow=false&after=2")))
	require.Equal(t, []string{"2", "3"}, ids(s.lines(t, "?follow=false&after=2", "Last-Event-ID", "1")))
	require.Empty(t, ids(s.lines(t, "?follow=false&after=3")))
	require.Equal(t, []string{"1", "2", "3"}, ids(s.lines(t, "?follow=false&stream=item-mug")))
	require.Equal(t, []string{"3"}, ids(s.lines(t, "?follow=false&stream=item-cup")), "how far it was read, and no event")
	require.NotContains(t, s.lines(t, "?follow=false&stream=item-cup"), "event: inventory.stock-adjusted.v1")
}

func TestAnEmptyLogHasNoEvents(t *testing.T) {
	require.Empty(t, ids(open(t).lines(t, "?follow=false")))
}

func TestWhereToBeginIsChecked(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	for path, code := range map[string]string{
		"?after=3": "after_beyond_log", "?after=x": "invalid_parameter", "?after=-1": "invalid_parameter",
		"?follow=perhaps": "invalid_parameter", "?from=1": "invalid_parameter",
		"?stream=item-mug;follow=false": "invalid_parameter", "?stream=%zz&follow=false": "invalid_parameter",
		"?stream=item-mug&stream=item-cup&follow=false": "invalid_parameter", "?after=1&after=0&follow=false": "invalid_parameter",
	} {
		m := s.ask(t, "GET", "/ledger/v1/events"+path, "")
		require.Equal(t, code, m.refused(t).Code, path)
		require.Equal(t, 400, m.status)
	}
	require.Equal(t, "after_beyond_log", s.ask(t, "GET", "/ledger/v1/events?after=0", "", "Last-Event-ID", "9").refused(t).Code)
	for _, err := range s.client.Follow(within(t), 9, "") {
		require.Equal(t, "after_beyond_log", fault.Code(err))
	}
}

// begin follows the events raw.
func (s *shop) begin(t testing.TB, path string) io.Reader {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t), "GET", s.server.URL()+"/ledger/v1/events"+path, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer.Body
}

func TestTheEventsAreNeverSilentForLong(t *testing.T) {
	s := open(t, func(c *httpapi.Config) { c.Heartbeat = 5 * time.Millisecond })
	s.command(t, "create-inventory-items", mug)
	lines := bufio.NewScanner(s.begin(t, "?after=2"))
	beats := 0
	for beats < 3 && lines.Scan() {
		if lines.Text() == ":" {
			beats++
		}
	}
	require.Equal(t, 3, beats)
	// Who wants nothing of what happens still hears how far it was looked for.
	lines = bufio.NewScanner(s.begin(t, "?stream=item-cup"))
	for lines.Scan() && lines.Text() != "id: 2" {
		require.NotContains(t, lines.Text(), "data")
	}
	require.NoError(t, lines.Err())
}

func TestFollowersAreBounded(t *testing.T) {
	s := open(t, func(c *httpapi.Config) { c.Followers = 1 })
	s.begin(t, "")
	m := s.ask(t, "GET", "/ledger/v1/events", "")
	require.Equal(t, "busy", m.refused(t).Code)
	require.Equal(t, 200, s.ask(t, "POST", list, "").status)
}

// Over one connection, the second request is answered after the first is over.
func TestTheHeadersOfTheEventsAreNobodyWhoFollows(t *testing.T) {
	s := open(t)
	conn := s.connect(t)
	_, err := io.WriteString(conn, "HEAD /ledger/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	answers := bufio.NewReader(conn)
	for _, c := range []struct{ method, content string }{{"HEAD", "text/event-stream"}, {"GET", "application/json"}} {
		answer, err := http.ReadResponse(answers, &http.Request{Method: c.method})
		require.NoError(t, err)
		require.Equal(t, 200, answer.StatusCode)
		require.Equal(t, c.content, answer.Header.Get("Content-Type"))
		_, err = io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
	require.Zero(t, s.server.Followers())
}

func TestClosingLetsFollowersGo(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	follower := s.begin(t, "")
	require.NoError(t, s.server.Close())
	text, err := io.ReadAll(follower)
	require.NoError(t, err)
	require.Empty(t, s.log.lines(), "%s", text)
}

// Whoever does not read what he asked for keeps nobody waiting.
func TestASlowFollowerCostsTheLedgerNothing(t *testing.T) {
	const enough = 100 // events of 60 KiB: a socket keeps 4 MB that are to be sent
	s := open(t)
	conn := s.connect(t)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err := io.WriteString(conn, "GET /ledger/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n") // and reads nothing
	require.NoError(t, err)
	big := strings.Repeat("x", 60<<10)
	for n := range enough { // more than sockets hold
		s.command(t, "create-inventory-items", fmt.Sprintf(`{"id":"i%d","metadata":{"x":%q}}`, n, big))
	}
	last := uint64(0)
	for e, err := range s.client.Follow(within(t), 0, "") {
		require.NoError(t, err)
		if last = e.Position; last == enough {
			break
		}
	}
	require.EqualValues(t, enough, last)
}

// The clock goes back, so that the time to take what is sent is over.
func TestAFollowerThatDoesNotTakeItIsLetGo(t *testing.T) {
	var back atomic.Int64
	s := open(t, func(c *httpapi.Config) {
		c.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	})
	s.command(t, "create-inventory-items", mug)
	follower := bufio.NewReader(s.begin(t, "?after=2"))
	_, err := follower.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, 1, s.server.Followers())
	back.Store(int64(time.Hour))
	_, err = s.ledger.DoJSON(within(t), commands.Envelope{}, "adjust-inventory-levels", []byte(oneOff))
	require.NoError(t, err)
	rest, err := io.ReadAll(follower)
	require.Error(t, err, "%s", rest)
	require.NotContains(t, string(rest), "data:")
}

func TestTheClientFollows(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	ctx, cancel := context.WithCancel(within(t))
	var got []uint64
	for e, err := range s.client.Follow(ctx, 1, "") {
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			break
		}
		if got = append(got, e.Position); e.Position == 2 {
			s.command(t, "adjust-inventory-levels", oneOff)
			continue
		}
		cancel()
	}
	cancel()
	require.Equal(t, []uint64{2, 3}, got)
}

// A cutter is a proxy that breaks connections off in the middle.
type cutter struct {
	net.Listener
	to     string
	random *rand.Rand
	cuts   int           // to make
	cut    chan struct{} // hears of each
	made   chan struct{} // closed after the last
	under  sync.WaitGroup
}

// serve carries connections one after the other: there is one follower.
func (c *cutter) serve() {
	for {
		from, err := c.Accept()
		if err != nil {
			return
		}
		to, err := new(net.Dialer).Dial("tcp", c.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		c.under.Go(func() { _, _ = io.Copy(to, from); _ = to.Close() })
		if c.cuts == 0 {
			c.under.Go(func() { _, _ = io.Copy(from, to); _ = from.Close() })
			continue
		}
		_, _ = io.CopyN(from, to, c.random.Int64N(6_000)) // some events, mostly
		if c.random.IntN(2) == 0 {
			_ = from.(*net.TCPConn).SetLinger(0) // and what was sent last may be lost, too
		}
		_ = from.Close()
		_ = to.Close()
		if c.cuts--; c.cuts == 0 {
			close(c.made)
		}
		select {
		case c.cut <- struct{}{}:
		default:
		}
	}
}

type levelState struct {
	Item     string      `json:"inventory_item_id"`
	Location string      `json:"location_id"`
	Stocked  json.Number `json:"stocked_quantity"`
	Reserved json.Number `json:"reserved_quantity"`
	Incoming json.Number `json:"incoming_quantity"`
}

// followToTheEnd follows a ledger until the event whose position comes on the
// standard input, and writes the levels that it has then.
func followToTheEnd(url string) error {
	c, err := httpapi.Dial(url, "")
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var at, through atomic.Uint64
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		position, _ := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if through.Store(position); at.Load() >= position {
			cancel()
		}
	}()
	levels := make(map[string]levelState)
	for e, err := range c.Follow(ctx, 0, "") {
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		fold(levels, e)
		at.Store(e.Position)
		if position := through.Load(); position > 0 && e.Position >= position {
			break
		}
	}
	return json.NewEncoder(os.Stdout).Encode(levels)
}

// fold takes one event into levels.
func fold(levels map[string]levelState, e httpapi.Event) {
	for _, before := range e.Before {
		if len(e.After) == 0 {
			delete(levels, before.LevelID)
		}
	}
	for _, after := range e.After {
		l := levels[after.LevelID]
		l.Item, l.Location = after.ItemID, after.LocationID
		if after.Stocked != nil {
			l.Stocked = json.Number(after.Stocked.String())
		}
		if after.Reserved != nil {
			l.Reserved = json.Number(after.Reserved.String())
		}
		if after.Incoming != nil {
			l.Incoming = json.Number(after.Incoming.String())
		}
		levels[after.LevelID] = l
	}
}

// levelsOf are all levels that a ledger lists.
func levelsOf(t testing.TB, l *stockledger.Ledger) map[string]levelState {
	t.Helper()
	head, err := l.Events().Head(within(t))
	require.NoError(t, err)
	all := make(map[string]levelState)
	for {
		result, err := l.Query(within(t), "list-inventory-levels", fmt.Appendf(nil, `{"take":100,"skip":%d,"after":%d}`, len(all), head))
		require.NoError(t, err)
		body, err := json.Marshal(result)
		require.NoError(t, err)
		var page struct {
			Rows []struct {
				ID string `json:"id"`
				levelState
			} `json:"rows"`
		}
		require.NoError(t, json.Unmarshal(body, &page))
		if len(page.Rows) == 0 {
			return all
		}
		for _, row := range page.Rows {
			all[row.ID] = row.levelState
		}
	}
}

// business is one random command about ten items at three locations.
func business(random *rand.Rand) (name, body string) {
	lines := func(n int, line func() string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = line()
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	place := func() string {
		return fmt.Sprintf(`"inventory_item_id":"i%d","location_id":"l%d"`, random.IntN(10), random.IntN(3))
	}
	switch random.IntN(10) {
	case 0:
		return "create-inventory-levels", fmt.Sprintf(`[{%s,"stocked_quantity":%d}]`, place(), random.IntN(50))
	case 1:
		return "delete-inventory-levels", fmt.Sprintf(`{%s,"force":true}`, place())
	case 2:
		return "update-inventory-levels", fmt.Sprintf(`[{%s,"stocked_quantity":%d}]`, place(), 20+random.IntN(50))
	case 3:
		return "update-inventory-levels", fmt.Sprintf(`[{%s,"incoming_quantity":%d}]`, place(), max(0, random.IntN(50)-30))
	case 4:
		return "create-reservations", fmt.Sprintf(`[{%s,"quantity":%d.5,"line_item_id":"line%d"}]`, place(), random.IntN(4), random.IntN(5))
	case 5:
		return "delete-reservations-by-line-item", fmt.Sprintf(`{"line_item_id":["line%d"]}`, random.IntN(5))
	default:
		return "adjust-inventory-levels", lines(5, func() string {
			return fmt.Sprintf(`{%s,"adjustment":%d}`, place(), 1+random.IntN(3))
		})
	}
}

// A consumer in another process that loses its connection a thousand times at
// random, in the middle of events too, ends with what the ledger has.
func TestAConsumerThatIsCutOffAllTheTimeMissesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := open(t)
	for n := range 10 {
		s.command(t, "create-inventory-items", fmt.Sprintf(
			`{"id":"i%d","location_levels":[{"location_id":"l0"},{"location_id":"l1","stocked_quantity":100},{"location_id":"l2","stocked_quantity":5}]}`, n))
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cuts := 1000
	if testing.Short() || race.On {
		cuts = 100
	}
	proxy := &cutter{
		Listener: listener, to: strings.TrimPrefix(s.server.URL(), "http://"), cuts: cuts, cut: make(chan struct{}), made: make(chan struct{}),
		random: rand.New(rand.NewPCG(seed, 2)),
	}
	proxy.under.Go(proxy.serve)

	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	consumer := exec.CommandContext(ctx, self)
	consumer.Env = append(os.Environ(), followerOf+"=http://"+listener.Addr().String())
	consumer.Stderr = os.Stderr
	stdin, err := consumer.StdinPipe()
	require.NoError(t, err)
	stdout, err := consumer.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, consumer.Start())

	carried := make(map[string]int)
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for cut := false; !cut; {
		name, body := business(random)
		if _, err := s.ledger.DoJSON(ctx, commands.Envelope{}, name, []byte(body)); err == nil {
			carried[name]++
		} else {
			kind := fault.Of(err).Kind
			require.True(t, kind == fault.NotAllowed || kind == fault.NotFound || kind == fault.Invalid && name == "create-inventory-levels", "%s %s: %v", name, body, err)
		}
		select { // the consumer is at the head now and then, and behind it mostly
		case <-proxy.made:
			cut = true
		case <-proxy.cut:
		case <-pace.C:
		}
	}
	require.Len(t, carried, 6, "all kinds of business were carried out: %v", carried)
	head, err := s.ledger.Events().Head(within(t))
	require.NoError(t, err)
	_, err = fmt.Fprintln(stdin, head)
	require.NoError(t, err)
	var rebuilt map[string]levelState
	require.NoError(t, json.NewDecoder(stdout).Decode(&rebuilt))
	require.NoError(t, consumer.Wait())
	require.NoError(t, listener.Close())
	require.NoError(t, s.server.Close())
	proxy.under.Wait()
	require.Equal(t, levelsOf(t, s.ledger), rebuilt)
	t.Logf("%d events, %d levels", head, len(rebuilt))
}
