// Package ports finds addresses for servers of tests that must be known before a
// server listens there, or stay the same when it is started again.
package ports
