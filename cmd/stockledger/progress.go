package main

import (
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

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	name  string
	total int
	done  int
	told  time.Time
	said  time.Time // by sayOnce
}

// tellEvery is how often a line says how far it is where there is no terminal.
const tellEvery = 5 * time.Second

func newProgress(w io.Writer) *progress {
	file, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && isatty.IsTerminal(file.Fd())}
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.total, p.done, p.told = name, total, 0, time.Now()
	if p.terminal {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(name), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
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
	if p.total < 0 {
		fmt.Fprintf(p.w, "%s: %d rows\n", p.name, p.done)
	} else {
		fmt.Fprintf(p.w, "%s: %d of %d rows\n", p.name, p.done, p.total)
	}
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
