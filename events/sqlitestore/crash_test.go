package sqlitestore_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/events/storetest"
)

// The test binary runs itself as a child that appends to a log until it is
// killed, and prints the positions acknowledged to it.
const (
	childLog   = "STOCKLEDGER_TEST_CHILD_LOG"
	childRound = "STOCKLEDGER_TEST_CHILD_ROUND" // or "limited", for a child whose files do not grow
	childBound = "STOCKLEDGER_TEST_CHILD_BOUND" // which of the openers; nothing is the usual one
)

var openers = map[string]func(path string) (*sqlitestore.Store, error){
	"": sqlitestore.Open, "narrow": sqlitestore.OpenNarrow, "still": sqlitestore.OpenStill,
}

func child(path, round string) {
	s, err := openers[os.Getenv(childBound)](path)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	var a storetest.Author
	for n := 0; ; n++ {
		if round == "limited" && n == 20 {
			limitFiles(path)
		}
		own := "item-" + round
		positions, err := s.Append(context.Background(),
			a.Commit(own, own+"-b", own), a.Commit(fmt.Sprintf("%s-%d", own, n)), a.Commit(own+"-b", own))
		if err != nil {
			limited(s, err)
		}
		for _, p := range positions {
			fmt.Println(p)
		}
	}
}

// limitFiles lets no file grow more than a little from here on. To SQLite that is a
// disk that fails, and not one that is full.
func limitFiles(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	info, err := os.Stat(path + "-wal")
	if err != nil {
		panic(err)
	}
	setLimit(uint64(info.Size()) + 100_000)
}

func setLimit(n uint64) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	limit.Cur = min(n, limit.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
}

// limited is what the child does when its file does not grow: it lets it grow again,
// and finds that the store does not go on.
func limited(s *sqlitestore.Store, err error) {
	fmt.Println("limited:", err)
	setLimit(1 << 62)
	_, err = s.Append(context.Background(), new(storetest.Author).Commit("item-later"))
	fmt.Println("later:", err)
	read := 0
	for _, err := range s.Read(context.Background(), "item-limited", 0) {
		if err != nil {
			fmt.Println("read:", err)
		}
		read++
	}
	fmt.Println("read:", read > 0)
	os.Exit(0)
}

// start runs a child on the log at path.
func start(t *testing.T, path, round string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childLog+"="+path, childRound+"="+round)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// killed runs a child until it has acknowledged so many commits, kills it, and
// returns all positions it acknowledged.
func killed(t *testing.T, path, round string, acknowledge int) (acknowledged []uint64) {
	t.Helper()
	cmd, lines := start(t, path, round)
	for lines.Scan() {
		p, err := strconv.ParseUint(lines.Text(), 10, 64)
		require.NoError(t, err, lines.Text())
		acknowledged = append(acknowledged, p)
		if len(acknowledged) == 1 {
			_, err := sqlitestore.Open(path)
			require.ErrorIs(t, err, events.ErrInUse)
			require.ErrorContains(t, err, fmt.Sprintf("process %d has it open", cmd.Process.Pid))
		}
		if len(acknowledged) == acknowledge {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	require.Error(t, cmd.Wait())
	require.GreaterOrEqual(t, len(acknowledged), acknowledge)
	return acknowledged
}

// wholeLog reads the log in both directions, and checks that it is made of whole
// commits, without gaps, each event once, in streams that verify.
func wholeLog(t *testing.T, s events.Store) (log []events.Recorded) {
	t.Helper()
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for uint64(len(log)) < head {
		for batch, err := range s.Subscribe(ctx, uint64(len(log))) {
			require.NoError(t, err)
			log = append(log, batch...)
			break
		}
	}
	last := make(map[string]events.Recorded)
	ids := make(map[string]bool)
	part := 0
	for i, e := range log {
		require.EqualValues(t, i+1, e.Position)
		require.NoError(t, e.Verify(last[e.Stream]))
		last[e.Stream] = e
		m, err := e.Metadata()
		require.NoError(t, err)
		require.False(t, ids[m.EventID], "event %s is there twice", m.EventID)
		ids[m.EventID] = true
		require.Equal(t, part+1, m.Part, "position %d", e.Position)
		part = m.Part % m.Parts
	}
	require.Zero(t, part, "the log ends inside a commit")
	for stream, newest := range last {
		n := uint64(0)
		for e, err := range s.Read(t.Context(), stream, 0) {
			require.NoError(t, err)
			require.Equal(t, log[e.Position-1].Hash, e.Hash)
			n++
		}
		require.Equal(t, newest.Version, n, stream)
	}
	return log
}

func TestKilledProcessLosesNothingItAcknowledged(t *testing.T) {
	for _, name := range []string{"", "narrow"} {
		t.Run("bound "+name, func(t *testing.T) {
			t.Setenv(childBound, name)
			losesNothing(t, openers[name])
		})
	}
}

func losesNothing(t *testing.T, open func(path string) (*sqlitestore.Store, error)) {
	path := newPath(t)
	seen := 0
	for round := range 10 {
		acknowledged := killed(t, path, strconv.Itoa(round), 3+round*round*5)
		s, err := open(path)
		require.NoError(t, err)
		log := wholeLog(t, s)
		require.Greater(t, len(log), seen)
		seen = len(log)
		for _, p := range acknowledged {
			require.LessOrEqual(t, p, uint64(len(log)))
			e := log[p-1]
			m, err := e.Metadata()
			require.NoError(t, err)
			require.True(t, m.Last())
			require.True(t, strings.HasPrefix(e.Stream+"-", fmt.Sprintf("item-%d-", round)), e.Stream)
		}
		require.NoError(t, s.Close())
	}
}

func TestTornWriteAheadLogOpensWithAPrefixOfWholeCommits(t *testing.T) {
	path := newPath(t)
	t.Setenv(childBound, "still") // what has moved to the file does not get lost with the tail
	killed(t, path, "0", 300)
	wal, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	s := open(t, path)
	log := wholeLog(t, s)

	offsets := []int{0, 1, 31, 32, 33, 56, 4151, 4152, 4153, len(wal) - 1, len(wal) - 4153, len(wal)}
	for range 10 {
		offsets = append(offsets, rand.IntN(len(wal)))
	}
	longest := 0
	for _, at := range offsets {
		t.Run(fmt.Sprintf("cut at %d", at), func(t *testing.T) {
			path := newPath(t)
			require.NoError(t, os.WriteFile(path, file, 0o600))
			require.NoError(t, os.WriteFile(path+"-wal", wal[:at], 0o600))
			s := open(t, path)
			got := wholeLog(t, s)
			require.LessOrEqual(t, len(got), len(log))
			for i, e := range got {
				require.Equal(t, log[i].Hash, e.Hash)
			}
			longest = max(longest, len(got))
			mustAppend(t, s, new(storetest.Author).Commit("item-after"))
			wholeLog(t, s)
		})
	}
	require.Len(t, log, longest, "the undamaged copy holds all")
}

// SQLite takes damage for the end of the file, and would drop what is behind it.
func TestAWriteAheadLogThatIsDamagedBeforeItsEndIsRefused(t *testing.T) {
	path := newPath(t)
	t.Setenv(childBound, "still")
	killed(t, path, "0", 60)
	wal, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	log := wholeLog(t, open(t, path))
	const eventsOfAnAppend = 6

	offsets := []int{}
	for at := range 32 {
		offsets = append(offsets, at) // the header
	}
	ends := endsIn(wal)
	require.Greater(t, len(ends), 3)
	for at := range walFrameHeader {
		offsets = append(offsets, 32+at, 32+5*walFrame+at) // headers of frames
		for _, end := range ends[len(ends)-2:] {
			offsets = append(offsets, end-walFrame+at)
		}
	}
	for range 30 {
		offsets = append(offsets, rand.IntN(len(wal)))
	}
	refused := 0
	for _, at := range offsets {
		path := newPath(t)
		damaged := bytes.Clone(wal)
		damaged[at] ^= 1 << rand.IntN(8)
		require.NoError(t, os.WriteFile(path, file, 0o600))
		require.NoError(t, os.WriteFile(path+"-wal", damaged, 0o600))
		// How many transactions end behind the damage, as far as can be told.
		before, _ := slices.BinarySearch(ends, at+1)
		lost := len(ends) - before
		apart := len(endsIn(damaged)) >= len(ends) // the last two look like two
		s, err := sqlitestore.Open(path)
		if err != nil {
			refused++
			require.True(t, lost > 0 || len(endsIn(damaged)) > len(ends), "byte %d of %d: all transactions are sound", at, len(wal))
			require.ErrorContains(t, err, path+"-wal is damaged after byte ", "byte %d", at)
			left, err := os.ReadFile(path + "-wal")
			require.NoError(t, err)
			require.Equal(t, damaged, left, "nothing is mended behind anybody's back")
			continue
		}
		// It may be what a crash left of the last transaction.
		require.True(t, lost <= 1 || lost == 2 && !apart, "byte %d of %d: %d transactions were dropped", at, len(wal), lost)
		got := wholeLog(t, s)
		require.Len(t, got, len(log)-lost*eventsOfAnAppend, "byte %d of %d", at, len(wal))
		for i, e := range got {
			require.Equal(t, log[i].Hash, e.Hash)
		}
		require.NoError(t, s.Close())
	}
	require.Greater(t, refused, 80)
}

// The parts of a write-ahead log of SQLite, in bytes.
const (
	walFrameHeader = 24
	walFrame       = walFrameHeader + 4096
)

// endsIn are the offsets behind the frames that say that a transaction ends there.
func endsIn(wal []byte) (ends []int) {
	for at := 32; at+walFrame <= len(wal); at += walFrame {
		if binary.BigEndian.Uint32(wal[at+4:]) != 0 {
			ends = append(ends, at+walFrame)
		}
	}
	return ends
}

// A copy of the files at any moment is what a dead machine leaves behind.
func TestCopiesOfAnOpenLogAreLogs(t *testing.T) {
	path := newPath(t)
	s, err := sqlitestore.OpenNarrow(path)
	require.NoError(t, err)
	defer s.Close()
	var a storetest.Author
	for n := range 60 {
		mustAppend(t, s, a.Commit("item-1", fmt.Sprintf("item-%d", n%7), "item-1"))
		if n%4 > 0 {
			continue
		}
		twin := newPath(t)
		for _, suffix := range []string{"", "-wal"} {
			text, err := os.ReadFile(path + suffix)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(twin+suffix, text, 0o600))
		}
		copied, err := sqlitestore.OpenNarrow(twin)
		require.NoError(t, err)
		require.Len(t, wholeLog(t, copied), len(a.Log))
		require.NoError(t, copied.Close())
		copied, err = sqlitestore.OpenNarrow(twin) // and after all places are written
		require.NoError(t, err)
		require.Len(t, wholeLog(t, copied), len(a.Log))
		require.NoError(t, copied.Close())
	}
}

// What is wrong with the disk is not known, other than that it has no room.
func TestAWriteThatFailsStopsTheStore(t *testing.T) {
	path := newPath(t)
	cmd, lines := start(t, path, "limited")
	var acknowledged uint64
	said := make(map[string]string)
	for lines.Scan() {
		if what, rest, found := strings.Cut(lines.Text(), ": "); found {
			said[what] = rest
			continue
		}
		p, err := strconv.ParseUint(lines.Text(), 10, 64)
		require.NoError(t, err)
		acknowledged = p
	}
	require.NoError(t, cmd.Wait())
	require.Contains(t, said["limited"], "append to log "+path)
	require.Contains(t, said["later"], events.ErrStopped.Error())
	require.Equal(t, "true", said["read"], "what was recorded before is still read")

	s := open(t, path)
	log := wholeLog(t, s)
	require.GreaterOrEqual(t, uint64(len(log)), acknowledged)
	mustAppend(t, s, new(storetest.Author).Commit("item-after"))
}

// query runs SQL on a file as another program would, and returns the first value.
func query(t *testing.T, path, script string) any {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+escape(path))
	require.NoError(t, err)
	defer db.Close()
	var value any
	rows, err := db.QueryContext(t.Context(), script)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		require.NoError(t, rows.Scan(&value))
	}
	require.NoError(t, rows.Err())
	return value
}

func escape(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(filepath.ToSlash(path))
}
