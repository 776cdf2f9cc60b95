package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	// DefaultListen is where the server listens unless told otherwise.
	DefaultListen = "127.0.0.1:8080"
	// headerTimeout is how long the headers of a request may take to arrive, and
	// bodyTimeout the body: a request of ours fits into a second of any line.
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	// answerTimeout is how long a request may take from its body on, the sending
	// of the answer included.
	answerTimeout = 2 * time.Minute
	// idleTimeout is how long a connection without requests stays open.
	idleTimeout = 2 * time.Minute
	// maxHeader bounds the headers of a request, and with them its URL, in bytes.
	// What has more, up to twice as much, is refused in our words; the rest net/http
	// refuses before it is in memory.
	maxHeader = 64 << 10
	// grace is how long closing waits for what is under way.
	grace = 30 * time.Second
)

// Config is what Serve needs. Ledger and Log must be set.
type Config struct {
	// Listen is HOST:PORT; "" is DefaultListen, port 0 takes a free one. A host
	// that is not loopback needs Tokens.
	Listen string
	Ledger Ledger
	Log    events.Store
	// Queries are the names of the queries that Ledger answers, each with a line
	// on what it is about; projections.QueryNames has them.
	Queries map[string]string
	// Shapes describes them for the OpenAPI document; those without one are of any JSON.
	Shapes map[string]Shape
	// Operator carries out the operations that Operations describe, by name; nil is
	// when there are none.
	Operator   transport.Operator
	Operations map[string]Operation
	// Routes are served besides those of this package.
	Routes []Route
	// Tokens is who may ask for what. Without any, everybody on this machine may
	// ask for everything.
	Tokens []Token
	// Ready says whether the ledger can be worked with; nil is always.
	Ready func(context.Context) []Condition
	// Standby is why this node carries out no commands now, while another one does:
	// fault.Unavailable, whose message everybody may read. It is nil while this node
	// leads. Every request with the scope Command asks it first. Where Standby itself
	// is nil there are no other nodes.
	Standby func() error
	// Metrics serves /metrics; nil leaves it out.
	Metrics http.Handler
	// Observe hears of every answer by the name of its route; nil is nobody. What
	// streams took no time: it ends when the client likes.
	Observe func(route string, status int, took time.Duration)
	// Version of the program; "" is 0.0.0.
	Version string
	// InFlight bounds the commands, the queries and the operations under way, each
	// by itself; 0 is 1024. Who
	// comes on top is told that the ledger is busy.
	InFlight int
	// Followers bounds those who follow the events; 0 is 256.
	Followers int
	// Heartbeat is how long the events are silent at most; 0 is 15 seconds.
	Heartbeat time.Duration
	// Now bounds what clients may take; nil is time.Now.
	Now func() time.Time
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Server answers on HTTP.
type Server struct {
	config   Config
	routes   []Route
	tokens   []Token
	mux      *http.ServeMux
	document func() ([]byte, error) // of the routes, as OpenAPI
	http     *http.Server
	listener net.Listener
	url      string

	commands, queries, operations, followers *transport.Gate
	arriving                                 *arriving

	streams context.Context //nolint:containedctx // ends what would never end by itself, when the server closes
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing is accepted any more
}

// Check says what is wrong with where to listen, or with who may ask.
func (c Config) Check() error {
	host, port, err := net.SplitHostPort(cmp.Or(c.Listen, DefaultListen))
	if err != nil {
		return fmt.Errorf("listen on %q: write HOST:PORT, such as %s: %w", c.Listen, DefaultListen, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen on %q: the port must be a number from 0 to 65535", c.Listen)
	}
	if len(c.Tokens) == 0 && !isLoopback(host) {
		return fmt.Errorf("listen on %s: whoever can reach it could change stock; "+
			"set a token, or name a file of tokens, or listen on %s", c.Listen, DefaultListen)
	}
	return checkTokens(c.Tokens)
}

// Serve starts answering. Ctx bounds the start only; Close ends the server.
func Serve(ctx context.Context, config Config) (*Server, error) {
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.Listen = cmp.Or(config.Listen, DefaultListen)
	config.Version = cmp.Or(config.Version, "0.0.0")
	config.InFlight = cmp.Or(config.InFlight, transport.InFlight)
	config.Followers = cmp.Or(config.Followers, defaultFollowers)
	config.Heartbeat = cmp.Or(config.Heartbeat, defaultHeartbeat)
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default of what the caller may set
	}
	if config.Observe == nil {
		config.Observe = func(string, int, time.Duration) {}
	}
	if err := config.Check(); err != nil {
		return nil, err
	}
	s := &Server{
		config: config, tokens: config.Tokens, mux: http.NewServeMux(), done: make(chan struct{}),
		commands:   transport.NewGate(config.InFlight, transport.InFlightBytes),
		queries:    transport.NewGate(config.InFlight, transport.InFlightBytes),
		operations: transport.NewGate(config.InFlight, transport.InFlightBytes),
		followers:  transport.NewGate(config.Followers, transport.InFlightBytes),
		arriving:   newArriving(arrivingBytes),
	}
	s.routes = append(s.ledgerRoutes(), config.Routes...)
	s.routes = append(append(s.routes, s.operationRoutes()...), s.healthRoutes()...)
	s.document = sync.OnceValues(func() ([]byte, error) { return document(config.Version, s.routes) })
	for _, r := range s.routes {
		s.mux.Handle(r.Method+" "+r.Path, s.guarded(r))
	}
	if err := s.listen(ctx); err != nil {
		return nil, err
	}
	s.streams, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.http = &http.Server{
		Handler: s.whole(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 2 * maxHeader,
		ErrorLog: slog.NewLogLogger(config.Logger.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			config.Logger.Error("HTTP has stopped", "url", s.url, "err", err)
		}
	}()
	return s, nil
}

func (s *Server) listen(ctx context.Context) (err error) {
	s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(s.config.Listen)
		return fmt.Errorf("listen on %s: port %s is in use, perhaps by another stockledger; "+
			"stop it, or choose another port (0 takes a free one): %w", s.config.Listen, port, err)
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.config.Listen, err)
	}
	s.url = urlOf(s.config.Listen, s.listener.Addr())
	return nil
}

// urlOf is where clients on this machine find a server that listens at addr.
func urlOf(listen string, addr net.Addr) string {
	host, _, _ := net.SplitHostPort(listen)
	_, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Followers is how many follow the events now.
func (s *Server) Followers() int { return s.followers.Inside() }

// URL is where clients connect.
func (s *Server) URL() string { return s.url }

// Close stops taking requests and returns once those under way are answered.
// Whoever follows the events is let go at once; they resume elsewhere.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	s.cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close: requests were still under way after %s", grace), s.http.Close())
	}
	<-s.done
	return err
}

// whole is what every request goes through, whatever it asks for.
func (s *Server) whole() http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &answer{ResponseWriter: w}
		now := s.config.Now()
		defer func() { s.config.Observe(cmp.Or(out.route, "none"), out.status, out.took(s.config.Now().Sub(now))) }()
		defer s.mend(out, r)
		timeouts := http.NewResponseController(w)
		alive(timeouts.SetReadDeadline(now.Add(bodyTimeout)))
		alive(timeouts.SetWriteDeadline(now.Add(answerTimeout)))
		out.Header().Set("X-Content-Type-Options", "nosniff")
		if err := headersWithin(r, maxHeader); err != nil {
			s.refuse(out, r, err)
			return
		}
		if err := s.foreign(crossOrigin, r); err != nil {
			s.refuse(out, r, err)
			return
		}
		if crooked(r.URL.EscapedPath()) {
			s.refuse(out, r, unknownPath(r))
			return
		}
		handler, pattern := s.mux.Handler(r)
		if pattern == "" {
			s.unknown(out, r, handler)
			return
		}
		s.mux.ServeHTTP(out, r)
	})
}

// headersWithin refuses a request by the bytes of its URL and its headers.
func headersWithin(r *http.Request, limit int) error {
	size := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	if size <= limit {
		return nil
	}
	return fault.New(fault.Invalid, "headers_too_large",
		"the URL and the headers have %d bytes, at most %d are allowed; send a query in the body of a POST", size, limit).
		With("size", size).With("limit", limit)
}

// alive ends a request whose connection takes no deadline: it is closing.
func alive(err error) {
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// unknown answers what no route is for. Method is how to tell a wrong method
// from a wrong path, which only the mux knows.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, method http.Handler) {
	probe := &discarded{header: make(http.Header)}
	method.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		err := fault.New(fault.Invalid, "method_not_allowed", "%s is not served at %s; use %s", r.Method, r.URL.Path, allow).With("allow", allow)
		s.write(w, r, http.StatusMethodNotAllowed, s.face(r, err))
		return
	}
	s.refuse(w, r, unknownPath(r))
}

func unknownPath(r *http.Request) error {
	return fault.New(fault.NotFound, "unknown_path", "there is nothing at %s; /openapi.json has all there is", r.URL.Path)
}

// crooked reports whether a path has an empty segment, "." or "..". The mux would
// leave those out and send the caller there: a call about one thing with an empty
// id would become a call about all.
func crooked(path string) bool {
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// discarded is an answer that nobody gets.
type discarded struct{ header http.Header }

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d *discarded) WriteHeader(int)             {}

// mend keeps a bug in the answer to one request from ending all others.
func (s *Server) mend(w *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	if w.status != 0 { // nothing can be said any more, but that it is not all
		s.config.Logger.Error("a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	s.refuse(w, r, err)
}

// answer is an answer of which we know whether it has begun, and how.
type answer struct {
	http.ResponseWriter
	status int    // 0: it has not
	route  string // "": none
	stream bool   // it ends when the client likes
}

// took is how long the answer took, 0 when that says nothing.
func (a *answer) took(d time.Duration) time.Duration {
	if a.stream {
		return 0
	}
	return d
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// guarded is the handler of a route: who may not ask, or comes on top of what
// the ledger takes at once, does not get to it.
func (s *Server) guarded(route Route) http.Handler {
	gate := map[Scope]*transport.Gate{Command: s.commands, Query: s.queries, Operate: s.operations}[route.Scope]
	if route.stream {
		gate = s.followers
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if out, ok := w.(*answer); ok {
			out.route, out.stream = route.Name, route.stream
		}
		if err := s.identify(r, route.Scope); err != nil {
			s.refuse(w, r, err)
			return
		}
		if route.Scope == "" { // what comes from anybody takes no room from others
			route.Handler(w, r)
			return
		}
		if err := s.elsewhere(route.Scope); err != nil {
			s.refuse(w, r, err)
			return
		}
		// The body comes first, so that nobody is inside the gate, or in a handler,
		// who waits for a slow client.
		body, err := s.arriving.whole(w, r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		alive(http.NewResponseController(w).SetReadDeadline(time.Time{}))
		if gate != nil {
			if err := gate.Enter(len(body)); err != nil {
				s.refuse(w, r, err)
				return
			}
			defer gate.Leave(len(body))
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		route.Handler(w, r)
	})
}

// elsewhere is the refusal of a command that another node carries out, before
// anything of it is read: the read models of this one may not know yet what it is
// about.
func (s *Server) elsewhere(scope Scope) error {
	if scope != Command || s.config.Standby == nil {
		return nil
	}
	return s.config.Standby()
}
