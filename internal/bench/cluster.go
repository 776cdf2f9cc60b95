package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// clusterStart bounds how long a cluster of our own may take to come up.
	clusterStart = time.Minute
	// clusterStop bounds how long it may take to end by itself.
	clusterStop = 20 * time.Second
)

// A cluster is a PostgreSQL of our own. It listens on a socket in its directory and
// on no port.
type cluster struct {
	dir     string
	process *os.Process
	ended   chan struct{} // is closed when it has
	why     error         // set by then
	log     string
}

func (c *cluster) url() string {
	return fmt.Sprintf("host=%s user=stockledger dbname=postgres sslmode=disable", c.dir)
}

// startCluster makes a cluster beside dir, on the same disk, and starts it.
func startCluster(ctx context.Context, dir string) (_ *cluster, err error) {
	bin, err := postgresBinaries()
	if err != nil {
		return nil, err
	}
	uid, gid, err := unprivileged()
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	if c.dir, err = clusterDir(dir, uid, gid); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	c.log = filepath.Join(c.dir, "log")
	data := filepath.Join(c.dir, "data")
	initdb := c.command(ctx, uid, gid, filepath.Join(bin, "initdb"), "-D", data, "-U", "stockledger", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
	if text, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", initdb.Path, err, why(text))
	}
	// The defaults are careful: fsync, full_page_writes and synchronous_commit are on.
	server := c.command(context.WithoutCancel(ctx), uid, gid, filepath.Join(bin, "postgres"), "-D", data, "-k", c.dir, "-c", "listen_addresses=",
		"-c", "max_connections=300", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB", "-c", "synchronous_commit=on")
	if err := c.start(server); err != nil {
		return nil, err
	}
	return c, c.ready(ctx)
}

func (c *cluster) command(ctx context.Context, uid, gid uint32, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // G204: the binaries that were found
	cmd.Dir = c.dir
	cmd.Env = []string{"LC_ALL=C", "HOME=" + c.dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = asUser(uid, gid)
	return cmd
}

// start starts the server, which is to end when this process does. The kernel watches
// the thread that starts it, so that thread stays until the server has ended.
func (c *cluster) start(server *exec.Cmd) error {
	log, err := os.Create(c.log)
	if err != nil {
		return err
	}
	server.Stdout, server.Stderr = log, log
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer log.Close()
		err := server.Start()
		started <- err
		if err == nil {
			c.why = server.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.process, c.ended = server.Process, ended
	return nil
}

// ready waits until it takes connections.
func (c *cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.url())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.ended:
			text, _ := os.ReadFile(c.log)
			return fmt.Errorf("postgres ended: %w: %s", c.why, why(text))
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not take connections: %w", err)
		default:
			pause(ctx, 50*time.Millisecond)
		}
	}
}

// close ends the server, by its process id, and removes its directory.
func (c *cluster) close() error {
	if c.process != nil {
		c.end()
	}
	return os.RemoveAll(c.dir)
}

func (c *cluster) end() {
	ctx, cancel := context.WithTimeout(context.Background(), clusterStop)
	defer cancel()
	for _, how := range []os.Signal{os.Interrupt, syscall.SIGQUIT, os.Kill} { // fast, at once, now
		if c.process.Signal(how) != nil {
			return // it has ended
		}
		wait, enough := context.WithTimeout(ctx, clusterStop/2)
		select {
		case <-c.ended:
			enough()
			return
		case <-wait.Done():
			enough()
		}
	}
	<-c.ended
}

// postgresBinaries is the directory of initdb and postgres: what is on the path, or
// else the newest that a distribution has installed.
func postgresBinaries() (string, error) {
	var found []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = append(found, filepath.Dir(path))
		}
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(installed, func(a, b string) int { return major(b) - major(a) })
	for _, bin := range append(found, installed...) {
		_, err := os.Stat(filepath.Join(bin, "initdb"))
		_, err2 := os.Stat(filepath.Join(bin, "postgres"))
		if err == nil && err2 == nil {
			return bin, nil
		}
	}
	return "", errors.New("no binaries of PostgreSQL were found on the path or in /usr/lib/postgresql, and none was named with --postgres")
}

// major is the 15 of /usr/lib/postgresql/15/bin.
func major(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// unprivileged is who PostgreSQL can run as, 0 being the user of this process:
// PostgreSQL refuses to run as root.
func unprivileged() (uid, gid uint32, err error) {
	if os.Geteuid() != 0 {
		return 0, 0, nil
	}
	if runtime.GOOS != "linux" {
		return 0, 0, errors.New("PostgreSQL does not run as root")
	}
	for _, name := range []string{"postgres", "nobody"} {
		who, err := user.Lookup(name)
		if err != nil {
			continue
		}
		u, err := strconv.ParseUint(who.Uid, 10, 32)
		g, err2 := strconv.ParseUint(who.Gid, 10, 32)
		if err == nil && err2 == nil && u != 0 {
			return uint32(u), uint32(g), nil
		}
	}
	return 0, 0, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

// longestSocket is how long the path of a directory with a socket in it may be.
const (
	longestSocket = 80
	anybodys      = "/tmp" // where every user may have a directory
)

// clusterDir makes a directory of that user's: beside dir, or else where everybody may
// have one, if that user cannot get there or if a socket's path would be too long. The
// disk is the same in any case.
func clusterDir(dir string, uid, gid uint32) (string, error) {
	beside := filepath.Dir(dir)
	if uid != 0 && !open(beside) || len(beside) > longestSocket-30 {
		ours, _ := filesystem(beside)
		if theirs, _ := filesystem(anybodys); theirs != ours {
			return "", fmt.Errorf("it cannot be beside %s, and %s is on another disk", dir, anybodys)
		}
		beside = anybodys
	}
	made, err := os.MkdirTemp(beside, "stockledger-postgres-")
	if err == nil && uid != 0 {
		err = os.Chown(made, int(uid), int(gid))
	}
	return made, err
}

// open reports whether everybody may pass through a directory.
func open(dir string) bool {
	for {
		about, err := os.Stat(dir)
		if err != nil || about.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// why is the line of what a program said that tells why it failed: the first that
// says it is fatal, or else the last.
func why(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range lines {
		if strings.Contains(line, "FATAL") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
