package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// An ownFile is a kind of file that the program writes at a path the user names,
// and knows again by its first line.
type ownFile struct {
	what, flag string
	begins     *regexp.Regexp
}

// mayReplace is an error if there is something at path that this program did not
// write: a slip of the pen must not cost anybody a file. What is no regular file,
// such as /dev/stdout, has nothing to lose.
func (o ownFile) mayReplace(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // whoever opens it will tell
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", o.flag, err)
	}
	defer file.Close()
	first, _ := bufio.NewReader(file).ReadSlice('\n') // or as much as a title has at most
	if o.begins.Match(first) {
		return nil
	}
	return fmt.Errorf("%s %s: that file is no %s and would be lost; name another one, or remove it first", o.flag, path, o.what)
}

// sameFile reports whether two paths lead to one file, also to one that is not
// there yet.
func sameFile(a, b string) bool {
	one, errOne := os.Stat(a)
	two, errTwo := os.Stat(b)
	if errOne == nil && errTwo == nil {
		return os.SameFile(one, two)
	}
	return a != "" && b != "" && whole(a) == whole(b)
}

// whole is the path from the root.
func whole(path string) string {
	if directory, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(directory, filepath.Base(path))
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return absolute
}
