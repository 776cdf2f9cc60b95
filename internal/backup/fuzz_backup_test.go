package backup

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
)

// Whatever a manifest says, it is refused by name or can be compared.
func FuzzManifest(f *testing.F) {
	for _, text := range []string{
		"", "null", "{}", "[]", `{"format":1}`, `{"format":2,"version":"9.9.9"}`, `{"format":1,"files":null}`,
		`{"format":1,"files":[{"name":"log.db","bytes":-1,"sha256":""}]}`,
		`{"format":1,"files":[{"name":"log.db","bytes":3,"sha256":"ab"},{"name":"../../etc/passwd","bytes":1,"sha256":""}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readManifest("here", text)
		if err == nil {
			_ = m.Bytes()
			err = m.compare(map[string]File{logName: {logName, 3, "ab"}})
		}
		if err != nil {
			require.Equal(t, fault.Invalid, fault.Of(err).Kind, "%v", err)
		}
	})
}

// Whatever a file holds that is said to be a backup, only files by our names come
// out of it, and only into the directory they are restored to.
func FuzzBackupFile(f *testing.F) {
	pack := func(names ...string) []byte {
		var file bytes.Buffer
		archive := tar.NewWriter(&file)
		for _, name := range names {
			require.NoError(f, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: 2}))
			_, err := archive.Write([]byte("{}"))
			require.NoError(f, err)
		}
		require.NoError(f, archive.Close())
		return file.Bytes()
	}
	f.Add(pack(logName, manifestName))
	f.Add(pack("../"+logName, "/etc/passwd", "./"+refusalsName, logName, logName, manifestName))
	f.Add(pack(manifestName)[:700])
	f.Add([]byte("no tar"))
	dir := f.TempDir()
	from := filepath.Join(dir, "backup.tar")
	f.Fuzz(func(t *testing.T, file []byte) {
		require.NoError(t, os.WriteFile(from, file, 0o600))
		s, err := openStage(filepath.Join(dir, "restored"))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.close()) }()
		_, err = s.fetch(t.Context(), from, func(string, uint64, uint64) {})
		if err != nil {
			_ = fault.Public(err)
		}
		made, err := os.ReadDir(s.dir)
		require.NoError(t, err)
		for _, entry := range made {
			require.Contains(t, ours, entry.Name())
		}
		beside, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, beside, 2)
	})
}
