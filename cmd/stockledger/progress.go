package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

// progress shows how far long work is: as a bar on a terminal, as a line now and
// then elsewhere. Its methods may be called from many goroutines.
type progress struct {
	w        io.Writer
	terminal bool
	unit     string // of the steps

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	name  string
	total int
	done  int
	note  string // on a line that says how far it is
	told  time.Time
	said  time.Time // by sayOnce
}

// tellEvery is how often a line says how far it is where there is no terminal.
const tellEvery = 5 * time.Second

func newProgress(w io.Writer) *progress {
	file, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && isatty.IsTerminal(file.Fd()), unit: "rows"}
}

// progressBeside shows how far it is beside rows that are printed meanwhile. Where
// these go to a terminal there is no need to: they are seen to come.
func progressBeside(s streams) *progress {
	if terminal(s.out) {
		return newProgress(io.Discard)
	}
	return newProgress(s.err)
}

// begin starts a piece of work of total steps, or of -1 when that is not known.
func (p *progress) begin(name string, total int) {
	p.open(name, total, progressbar.OptionShowIts(), progressbar.OptionSetItsString(p.unit))
}

func (p *progress) open(name string, total int, options ...progressbar.Option) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.total, p.done, p.told = name, total, 0, time.Now()
	if p.terminal {
		p.bar = progressbar.NewOptions(total, append(options,
			progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.described()), progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())...)
	}
}

// add says that n more steps are done.
func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.bar != nil {
		_ = p.bar.Add(n)
		return
	}
	if time.Since(p.told) < tellEvery {
		return
	}
	p.told = time.Now()
	line := fmt.Sprintf("%s: %d", p.name, p.done)
	if p.total >= 0 {
		line += fmt.Sprintf(" of %d", p.total)
	}
	if p.unit != "" {
		line += " " + p.unit
	}
	if p.note != "" {
		line += ", " + p.note
	}
	fmt.Fprintln(p.w, line)
}

// at says that so many steps of a piece of work are done, of a total that may have
// grown; 0 is not known. It begins the piece when it is another one. Somebody else
// does the work and may have begun long ago, so the bar does not say how fast it is.
func (p *progress) at(name string, done, total uint64) {
	steps, all := int(done), int(total) //nolint:gosec // G115: positions, rows and bytes stay below 2^63
	p.mu.Lock()
	same := p.name == name
	p.mu.Unlock()
	if !same {
		p.end()
		p.open(name, cmp.Or(all, -1), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	}
	p.mu.Lock()
	more := steps - p.done
	if all > 0 && all != p.total {
		p.total = all
		if p.bar != nil {
			p.bar.ChangeMax(all)
		}
	}
	p.mu.Unlock()
	if more > 0 {
		p.add(more)
	}
}

// beside is said with how far it is.
func (p *progress) beside(note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = note
	if p.bar != nil {
		p.bar.Describe(p.described())
	}
}

// described is the name of the work with what is said beside it.
func (p *progress) described() string {
	if p.note == "" {
		return p.name
	}
	return p.name + ", " + p.note
}

// say prints a line above the bar.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// sayOnce says what many goroutines notice at the same time.
func (p *progress) sayOnce(format string, args ...any) {
	p.mu.Lock()
	again := time.Since(p.said) < tellEvery
	if !again {
		p.said = time.Now()
	}
	p.mu.Unlock()
	if !again {
		p.say(format, args...)
	}
}

// end finishes the piece of work.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Finish()
		_ = p.bar.Clear()
		p.bar = nil
	}
}
