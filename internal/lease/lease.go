// Package lease decides which of several processes carries out commands.
package lease
