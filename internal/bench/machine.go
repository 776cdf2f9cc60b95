package bench

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is what figures were taken on, and when, and of what.
type Machine struct {
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Memory     int64     `json:"memory_bytes"` // 0 is not known
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	Taken      time.Time `json:"taken_at"`
	Version    string    `json:"version"`
	Commit     string    `json:"commit"`   // "unknown" when the program was built without it
	Modified   bool      `json:"modified"` // the source was not quite that of the commit
	Filesystem string    `json:"filesystem"`
	Sync       float64   `json:"sync_us"` // median of writing 512 bytes to the end of a file and syncing them
	Seed       uint64    `json:"seed"`
}

// String is all of it in one sentence.
func (m Machine) String() string {
	memory := ""
	if m.Memory > 0 {
		memory = fmt.Sprintf(", %.0f GiB", float64(m.Memory)/(1<<30))
	}
	return fmt.Sprintf("%s, %d cores%s, %s, %s; %s whose sync takes %.2f ms; commit %s, seed %d; %s",
		m.CPU, m.Cores, memory, m.Kernel, m.Go, m.Filesystem, m.Sync/1000, m.CommitName(), m.Seed, m.Taken.Format("2006-01-02 15:04 MST"))
}

// CommitName is the commit, short, and whether the source was changed since.
func (m Machine) CommitName() string {
	name := m.Commit[:min(len(m.Commit), 12)]
	if m.Modified {
		name += " with changes"
	}
	return name
}

func look(config Config) (m Machine, err error) {
	m = Machine{
		CPU: processor(), Cores: runtime.NumCPU(), Memory: memoryOfMachine(), Kernel: kernel(), Go: runtime.Version(),
		Taken: config.Now().UTC(), Version: config.Version, Commit: "unknown", Seed: config.Seed,
	}
	_, m.Filesystem = filesystem(config.Dir)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				m.Commit = s.Value
			case "vcs.modified":
				m.Modified = s.Value == "true"
			}
		}
	}
	m.Sync, err = syncTime(config)
	return m, err
}

func processor() string {
	return cmp.Or(field("/proc/cpuinfo", "model name"), runtime.GOARCH)
}

func memoryOfMachine() int64 { return kibibytes(field("/proc/meminfo", "MemTotal")) }

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(release))
}

// field is what a file of lines "name: value" says of a name, "" for nothing.
func field(path, name string) string {
	text, err := os.ReadFile(path) //nolint:gosec // G304: a file of the kernel's
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kibibytes reads "123 kB" as bytes.
func kibibytes(text string) int64 {
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0
	}
	return n * 1024
}

// filesystem is the file system that a directory is on: where it is mounted, "" for not
// known, and its kind.
func filesystem(dir string) (best, kind string) {
	kind = "a file system"
	mounts, err := os.ReadFile("/proc/self/mounts")
	dir, absErr := filepath.Abs(dir)
	if err != nil || absErr != nil {
		return best, kind
	}
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line)
		if len(words) < 3 || len(words[1]) < len(best) {
			continue
		}
		if at := words[1]; at == "/" || dir == at || strings.HasPrefix(dir, at+"/") {
			best, kind = at, words[2]
		}
	}
	return best, kind
}

// syncTime is how long a small write at the end of a file takes until it is on
// disk, in microseconds: the median of 100.
func syncTime(config Config) (float64, error) {
	path := filepath.Join(config.Dir, "sync")
	f, err := os.Create(path) //nolint:gosec // G304: a file of ours
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	took := make([]time.Duration, 100)
	block := make([]byte, 512)
	for i := range took {
		start := config.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syncData(f); err != nil {
			return 0, err
		}
		took[i] = config.Now().Sub(start)
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds()) / 1000, nil
}
