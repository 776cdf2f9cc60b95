package backup

import (
	"archive/tar"
	"bytes"
	"io"
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

// Whatever a file holds that is said to be a backup, only files by our names are
// taken out of it, and no more of them than it has.
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
	from := filepath.Join(f.TempDir(), "backup.tar")
	f.Fuzz(func(t *testing.T, file []byte) {
		require.NoError(t, os.WriteFile(from, file, 0o600))
		err := each(from, func(name string, _ int64, r io.Reader) error {
			require.Contains(t, ours, name)
			n, err := io.Copy(io.Discard, r)
			require.LessOrEqual(t, n, int64(len(file)))
			return err
		})
		if err != nil {
			require.NotEmpty(t, fault.Public(err).Code)
		}
	})
}
