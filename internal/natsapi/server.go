package natsapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/events"
)

const (
	// DefaultListen is where an embedded server listens unless told otherwise.
	DefaultListen = "127.0.0.1:4222"
	// maxPayload is the largest message of an embedded server. nats-server warns
	// against more; an answer may be several times the command.
	maxPayload = 8 << 20
	// startTimeout bounds the recovery of the JetStream store: 10 million
	// messages without an index take 13 s.
	startTimeout = 2 * time.Minute
)

// ServerConfig says where an embedded NATS server listens and keeps its data.
// Dir must be set.
type ServerConfig struct {
	// Listen is HOST:PORT; "" is DefaultListen, port 0 takes a free one. A host
	// that is not loopback needs Token, or User and Password.
	Listen string
	// Dir holds what JetStream stores; it is made if missing.
	Dir string
	// Token, or User and Password, is what clients must show.
	Token, User, Password string
	// Logger hears of warnings and errors of the server; nil is slog.Default().
	Logger *slog.Logger
}

// Server is an embedded NATS server with JetStream. Everything JetStream
// acknowledges is on disk.
type Server struct {
	config ServerConfig
	nats   *server.Server
	lock   *flock.Flock
}

// StartServer starts a NATS server in this process, and returns once it takes
// connections. It fails with an error that wraps [events.ErrInUse] when another
// process has the directory.
func StartServer(config ServerConfig) (_ *Server, err error) {
	if config.Listen == "" {
		config.Listen = DefaultListen
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Dir == "" {
		return nil, errors.New("start NATS server: no directory for its data")
	}
	options, err := config.options()
	if err != nil {
		return nil, err
	}
	s := &Server{config: config}
	if s.lock, err = lockDir(config.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.nats, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	log := &serverLog{config.Logger, make(chan string, 1)}
	s.nats.SetLogger(log, false, false)
	return s, s.start(log)
}

// start waits until the server is ready or has said why it will never be.
func (s *Server) start(log *serverLog) error {
	ready := make(chan bool, 1)
	go func() {
		s.nats.Start()
		ready <- s.nats.ReadyForConnections(startTimeout)
	}()
	select {
	case ok := <-ready:
		if ok && !s.nats.JetStreamEnabled() {
			return fmt.Errorf("start NATS server: JetStream does not start in %s; the log says why", s.config.Dir)
		}
		if ok {
			return nil
		}
		return fmt.Errorf("start NATS server: not ready after %s; the log says why", startTimeout)
	case reason := <-log.fatal:
		return fmt.Errorf("start NATS server: %s", reason)
	}
}

// Check says what is wrong with where to listen and what clients must show.
func (c ServerConfig) Check() error {
	_, _, err := c.address()
	return err
}

// address is where to listen, checked.
func (c ServerConfig) address() (host string, port int, err error) {
	listen := cmp.Or(c.Listen, DefaultListen)
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: write HOST:PORT, such as %s: %w", listen, DefaultListen, err)
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: the port must be a number from 0 to 65535", listen)
	}
	if (c.User == "") != (c.Password == "") {
		return "", 0, errors.New("start NATS server: a user needs a password, and a password a user")
	}
	if !isLoopback(host) && c.Token == "" && c.User == "" {
		return "", 0, fmt.Errorf("listen on %s: whoever can reach it could change stock; "+
			"set a token or a user and password, or listen on %s", listen, DefaultListen)
	}
	return host, int(number), nil
}

// options are the server's, checked.
func (c ServerConfig) options() (*server.Options, error) {
	host, port, err := c.address()
	if err != nil {
		return nil, err
	}
	if err := probe(c.Listen); err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return &server.Options{
		ServerName: "stockledger",
		Host:       host, Port: port,
		Authorization: c.Token, Username: c.User, Password: c.Password,
		JetStream: true, StoreDir: c.Dir, SyncAlways: true,
		MaxPayload: maxPayload, NoSigs: true, NoLog: true,
	}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// probe says what is wrong with an address while there is time to say it well.
func probe(listen string) error {
	l, err := net.Listen("tcp", listen) //nolint:noctx // it returns at once
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(listen)
		return fmt.Errorf("listen on %s: port %s is in use, perhaps by another stockledger or NATS server; "+
			"stop it, choose another port (0 takes a free one), or use that server by its URL: %w", listen, port, err)
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	return l.Close()
}

// lockDir keeps a second process out of the JetStream store, which would not.
func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("directory of NATS: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "stockledger.lock"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the directory of NATS: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("the NATS data in %s is %w; stop that process or choose another directory", dir, events.ErrInUse)
	}
	return lock, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Connect makes a connection that does not leave the process.
func (s *Server) Connect(options ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{nats.InProcessServer(s.nats), nats.Name("stockledger")}
	switch {
	case s.config.User != "":
		all = append(all, nats.UserInfo(s.config.User, s.config.Password))
	case s.config.Token != "":
		all = append(all, nats.Token(s.config.Token))
	}
	conn, err := nats.Connect("", append(all, options...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return conn, nil
}

// Close stops the server and waits until everything is on disk. Connections to
// it end; drain them first.
func (s *Server) Close() error {
	if s.nats != nil {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
	}
	return s.lock.Unlock()
}

// serverLog is where the server's log goes: what a person must act on to the
// logger, and the reason for giving up to whoever starts it.
type serverLog struct {
	to    *slog.Logger
	fatal chan string
}

func (l *serverLog) Noticef(format string, v ...any) { l.say(l.to.Debug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.say(l.to.Warn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.say(l.to.Error, format, v) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.say(l.to.Error, format, v)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

func (l *serverLog) say(level func(string, ...any), format string, v []any) {
	level("nats server", "says", fmt.Sprintf(format, v...))
}
