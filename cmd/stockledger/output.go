package main

import (
	"io"
	"sync"
)

// An output is the standard output. Most of what is printed is printed without
// looking whether it could be, so it remembers the first error: a list that ends
// early because the disk is full would pass for all there is. It may be written to
// from many goroutines.
type output struct {
	to io.Writer

	mu  sync.Mutex
	err error
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

// lost is why something that was printed did not arrive, nil when all did.
func (o *output) lost() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
