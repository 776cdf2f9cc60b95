package commands

import (
	"encoding/json"
	"slices"

	"github.com/stockledger/stockledger/events"
)

// recent remembers the newest commands: everything the index may not know yet.
// It is guarded by Engine.mu.
type recent struct {
	commands map[string]*remembered // by command key
	refs     map[lookup][]Ref
	order    []*remembered // oldest first
	// forgotten is the position up to which commands are left to the index.
	forgotten uint64
	kept      int // keptCommands
	most      int // mostCommands
	answers   int // bytes of the durable answers remembered
	noted     int // refs of the commands remembered
}

// remembered is a commit that was decided, and is durable or will be.
type remembered struct {
	key      string
	digest   string
	position uint64 // 0 until durable
	answer   json.RawMessage
	refs     []found
	touched  []*entry // the aggregates it changed, until it is durable
}

type found struct {
	at  lookup
	ref Ref
}

// keptCommands is how many commands are remembered even when the index knows
// them, so that an index that moves on seldom makes a command look again;
// keptAnswers is how many bytes their answers may have, and keptRefs how many refs
// they may have made, some 12 MB.
const (
	keptCommands = 1 << 13
	keptAnswers  = 8 << 20
	keptRefs     = 1 << 15
)

// The most that is remembered while the index stands still. Over that, commands
// wait until it moves on, and are refused in the end: memory is not where a log is
// kept.
const (
	mostCommands = 1 << 18
	mostAnswers  = 16 << 20
	mostRefs     = 1 << 16
)

// full reports whether no more commands may be remembered.
func (r *recent) full() bool {
	return len(r.order) >= r.most || r.answers >= mostAnswers || r.noted >= mostRefs
}

func newRecent() *recent {
	return &recent{commands: make(map[string]*remembered), refs: make(map[lookup][]Ref), kept: keptCommands, most: mostCommands}
}

func (r *recent) add(c *remembered) {
	r.commands[c.key] = c
	r.order = append(r.order, c)
}

func (r *recent) note(c *remembered, fact events.Fact) {
	for at, ref := range refs(fact) {
		r.refs[at] = append(r.refs[at], ref)
		c.refs = append(c.refs, found{at, ref})
		r.noted++
	}
}

// durable notes where a commit, or the part of it that was read, ends.
func (r *recent) durable(c *remembered, position uint64, answer json.RawMessage) {
	c.position, c.answer, c.touched = position, answer, nil
	r.answers += len(answer)
}

// read remembers an event that was read from the log, the next one after those
// that are remembered. A commit may come in parts.
func (r *recent) read(position uint64, meta *events.Meta, fact events.Fact) {
	var c *remembered
	if n := len(r.order); n > 0 && r.order[n-1].key == meta.CommandID {
		c = r.order[n-1]
	} else {
		c = &remembered{key: meta.CommandID, digest: meta.Digest}
		r.add(c)
	}
	r.note(c, fact)
	r.durable(c, position, meta.Answer)
}

// forget leaves what the index knows to the index, but for the newest commands.
func (r *recent) forget(known uint64) {
	n := 0
	spare := func() bool { return n < len(r.order)-r.kept || r.answers > keptAnswers || r.noted > keptRefs }
	for n < len(r.order) && spare() && r.order[n].position != 0 && r.order[n].position <= known {
		r.forgotten = max(r.forgotten, r.order[n].position)
		r.remove(r.order[n])
		n++
	}
	r.order = r.order[n:]
}

// drop forgets the commands that are not durable, and returns them.
func (r *recent) drop() (dropped []*remembered) {
	n := len(r.order)
	for n > 0 && r.order[n-1].position == 0 { // what is durable is before what is not
		n--
		r.remove(r.order[n])
	}
	dropped, r.order = slices.Clone(r.order[n:]), r.order[:n]
	return dropped
}

func (r *recent) remove(c *remembered) {
	if c.position != 0 {
		r.answers -= len(c.answer)
	}
	r.noted -= len(c.refs)
	if r.commands[c.key] == c { // and not the same commit, read again from the log
		delete(r.commands, c.key)
	}
	for _, f := range c.refs {
		rest := r.refs[f.at]
		if i := slices.Index(rest, f.ref); i == 0 {
			rest = rest[1:] // the usual case: the oldest goes first
		} else if i > 0 {
			rest = slices.Delete(rest, i, i+1)
		}
		if len(rest) == 0 {
			delete(r.refs, f.at)
		} else {
			r.refs[f.at] = rest
		}
	}
}
