package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	format  = "stockledger.log.v1" // what the first line must say
	maxLine = 64 << 20             // bounds what is read of a file that has no lines
)

// A head is what a log was up to a position: D is 32 zero bytes at position 0, and
// SHA-256(D of the position before ‖ hash of the event) at every other.
type head struct {
	Log            string
	Position       uint64
	Digest         string // D, in hexadecimal
	At             string // recorded_at of the event there
	Key, Signature string // in base64
}

// An event is a line of the export. Data and Meta are, to the byte, what is stored.
// Version is its place in its stream, Prev the hash of the event before it there.
type event struct {
	Position   uint64
	Stream     string
	Version    uint64
	Type       string
	Data, Meta string
	Prev, Hash string // in hexadecimal
}

// A meta is what is checked of an event's metadata. The events of a commit, which
// one command made, are numbered part 1 to parts; one that is alone has neither.
type meta struct {
	CommandID string `json:"command_id"`
	Recorded  string `json:"recorded_at"`
	Part      int    `json:"part"`
	Parts     int    `json:"parts"`
}

// A log is what has been read of an export.
type log struct {
	head
	digest  [32]byte         // D of head.Position
	streams map[string]event // the last event of each
	commits int
	part    meta  // of the event read last
	known   *head // which the log must have; nil if there is none
}

// check reads an export to its end. Its error names the first position that is wrong.
func check(r io.Reader, known *head) (*log, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLine)
	l := &log{streams: make(map[string]event), known: known}
	for complete := false; ; {
		more, here := lines.Scan(), l.Position+1
		line, err := lines.Bytes(), lines.Err()
		switch {
		case !more && err == nil && complete:
			return l, nil
		case !more:
			err = cmp.Or(err, errors.New("the file ends without the line that has the head"))
		case complete:
			err = errors.New("something follows the line with the head")
		case l.Log == "":
			err = l.begin(line)
		case bytes.HasPrefix(line, []byte(`{"head":`)):
			err, complete = l.finish(line), true
		default:
			err = l.add(line)
		}
		if err != nil {
			return nil, fmt.Errorf("position %d: %w", here, err)
		}
	}
}

// wholeLine splits at line feeds; the last line has one, too.
func wholeLine(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errors.New("the file ends within the line")
	}
	return 0, nil, nil
}

// begin reads the first line.
func (l *log) begin(line []byte) error {
	var first struct{ Format, Log string }
	if err := json.Unmarshal(line, &first); err != nil || first.Format != format || first.Log == "" {
		return fmt.Errorf("this is no export in the format %s", format)
	}
	l.Log, l.Digest = first.Log, hex.EncodeToString(l.digest[:])
	if k := l.known; k != nil && (k.Log != l.Log || k.Position == 0 && k.Digest != l.Digest) {
		return fmt.Errorf("this is log %q, and the head is of log %q, position %d, digest %q", l.Log, k.Log, k.Position, k.Digest)
	}
	return same(line, fmt.Sprintf(`{"format":%s,"log":%s}`, quote(format), quote(l.Log)))
}

// add reads the line of an event, which must follow from all before it.
func (l *log) add(line []byte) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("its line cannot be read: %w", err)
	}
	if err := same(line, fmt.Sprintf(`{"position":%d,"stream":%s,"version":%d,"type":%s,"data":%s,"meta":%s,"prev":%s,"hash":%s}`,
		e.Position, quote(e.Stream), e.Version, quote(e.Type), quote(e.Data), quote(e.Meta), quote(e.Prev), quote(e.Hash))); err != nil {
		return err
	}
	before, hash := l.streams[e.Stream], e.link()
	switch {
	case e.Position != l.Position+1:
		return fmt.Errorf("there is position %d", e.Position)
	case e.Version != before.Version+1:
		return fmt.Errorf("version %d of %s follows version %d", e.Version, e.Stream, before.Version)
	case e.Prev != cmp.Or(before.Hash, strings.Repeat("00", sha256.Size)):
		return fmt.Errorf("version %d of %s does not continue the chain of its stream", e.Version, e.Stream)
	case e.Hash != hex.EncodeToString(hash[:]):
		return fmt.Errorf("the bytes of version %d of %s do not match its hash", e.Version, e.Stream)
	}
	if err := l.follow(e.Meta); err != nil {
		return err
	}
	l.streams[e.Stream] = event{Version: e.Version, Hash: e.Hash}
	l.digest = sha256.Sum256(append(l.digest[:], hash[:]...))
	l.Position, l.Digest, l.At = e.Position, hex.EncodeToString(l.digest[:]), l.part.Recorded
	if k := l.known; k != nil && k.Position == l.Position && (k.Digest != l.Digest || k.At != l.At) {
		return fmt.Errorf("up to here something was changed since the head was taken: digest %s and time %q were %s and %q",
			l.Digest, l.At, k.Digest, k.At)
	}
	return nil
}

// link is the hash an event must have: SHA-256 over Prev and then the stream, the
// version, the type, the data and the metadata, each text after its length in
// bytes; numbers are eight bytes, big endian.
func (e event) link() [32]byte {
	b, _ := hex.DecodeString(e.Prev) // which must be the hash before, or it is refused anyway
	text := func(t string) { b = append(binary.BigEndian.AppendUint64(b, uint64(len(t))), t...) }
	text(e.Stream)
	b = binary.BigEndian.AppendUint64(b, e.Version)
	text(e.Type)
	text(e.Data)
	text(e.Meta)
	return sha256.Sum256(b)
}

// follow checks that the parts of a commit follow one another.
func (l *log) follow(metadata string) error {
	var m meta
	if err := json.Unmarshal([]byte(metadata), &m); err != nil {
		return fmt.Errorf("its metadata cannot be read: %w", err)
	}
	first := l.part.Part == l.part.Parts // the commit before is complete
	if first && (m.Part == 0 && m.Parts == 0 || m.Part == 1 && m.Parts > 1) {
		l.commits++
	} else if first || m.Part != l.part.Part+1 || m.Parts != l.part.Parts || m.CommandID != l.part.CommandID {
		return fmt.Errorf("part %d of %d of command %s cannot follow part %d of %d of command %s",
			m.Part, m.Parts, m.CommandID, l.part.Part, l.part.Parts, l.part.CommandID)
	}
	l.part = m
	return nil
}

// finish reads the last line, which has the head of all before it.
func (l *log) finish(line []byte) error {
	if l.part.Part != l.part.Parts {
		return fmt.Errorf("the log ends within a commit, with part %d of %d", l.part.Part, l.part.Parts)
	}
	if l.known != nil && l.known.Position > l.Position {
		return fmt.Errorf("the log ends here, and the head is of position %d: the end was cut off", l.known.Position)
	}
	return same(line, fmt.Sprintf(`{"head":{"log":%s,"position":%d,"digest":%s,"at":%s}}`,
		quote(l.Log), l.Position, quote(l.Digest), quote(l.At)))
}

// same checks that a line is written in the one way there is to say what it says.
func same(line []byte, written string) error {
	if string(line) != written {
		return errors.New("the line is not written as it must be")
	}
	return nil
}

// quote writes a JSON string in which nothing is escaped that need not be.
func quote(s string) string { return `"` + escapes.Replace(s) + `"` }

var escapes = func() *strings.Replacer {
	pairs := []string{`"`, `\"`, `\`, `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`}
	for c := range ' ' {
		pairs = append(pairs, string(c), fmt.Sprintf(`\u%04x`, c)) // those above win
	}
	return strings.NewReplacer(pairs...)
}()
