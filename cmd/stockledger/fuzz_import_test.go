package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
)

// fuzzedMapping reads lines such as "map sku=Item" or "set location_id=paris".
func fuzzedMapping(of subject, text string) (*mapping, error) {
	var maps, sets []string
	for line := range strings.Lines(text) {
		if pair, found := strings.CutPrefix(strings.TrimSpace(line), "map "); found {
			maps = append(maps, pair)
		} else if pair, found := strings.CutPrefix(strings.TrimSpace(line), "set "); found {
			sets = append(sets, pair)
		}
	}
	m, err := newMapping(of, maps, sets)
	if err != nil {
		return nil, err
	}
	return m, m.check()
}

// Whatever a CSV file holds and however it is mapped, every row of it is bad, and
// it is said why, or is a command that the ledger can read. The name of the import
// is the same at every attempt.
func FuzzImportFile(f *testing.F) {
	const byColumns = "map sku=sku\nmap adjustment=n\nmap location_id=at\nmap reference=ref"
	for _, file := range []string{
		"sku,n,at,ref\nMUG,-1,paris,order-1\n", "\xef\xbb\xbfsku,n,at,ref\r\nMUG,1,paris,\r\n", "sku,n,at,ref\n\"a\"\"b\",1,\"pa\nris\",x\n",
		"sku,n,at,ref\n\"unclosed,1,paris,x\n", "sku,n,at,ref\nMUG\n", "sku,n,at,ref\na\x00b,1,paris,\xff\xfe\n", "", "\n\n", "sku\n", "sku,sku,n,at,ref\n1,2,3,4,5\n",
		"sku,n,at,ref\n" + strings.Repeat("x", 70_000) + ",1e400,paris," + strings.Repeat("\"", 101) + "\n", "sku,n,at,ref\nMUG,0x10,paris,\nMUG, 1 ,paris,\n",
	} {
		f.Add(true, byColumns, []byte(file))
	}
	f.Add(false, "map id=a\nmap metadata=m\nset location_id=paris\nmap stocked_quantity=q\nmap requires_shipping=s\nmap effective_at=d",
		[]byte("a,m,q,s,d\nmug,\"{\"\"a\"\":[1]}\",3,true,2026-01-31\ncup,{,x,yes,31.1.2026\n"))
	f.Add(false, "map id=a\nmap id=b\nset nothing=x\nset title", []byte("a,b\n1,2\n"))
	path := filepath.Join(f.TempDir(), "import.csv")
	f.Fuzz(func(t *testing.T, adjustments bool, mapped string, content []byte) {
		of := itemRows
		if adjustments {
			of = adjustmentRows
		}
		m, err := fuzzedMapping(of, mapped)
		if err != nil {
			return
		}
		require.NoError(t, os.WriteFile(path, content, 0o600))
		file := csvFile{path}
		header, err := file.header()
		if err != nil {
			return
		}
		if m.bind(header) != nil {
			return
		}
		read := func() inspection {
			found, err := file.inspect(m, func(l line) {
				if l.bad != nil {
					require.NotEmpty(t, l.bad.Error())
					return
				}
				if l.sku != "" {
					require.True(t, utf8.ValidString(l.sku))
					l.fields["inventory_item_id"] = quoted("x")
				}
				body, err := m.encode(l)
				require.NoError(t, err)
				_, err = commands.Decode(m.command, body)
				require.NoError(t, err, "%s", body)
			})
			require.NoError(t, err)
			return found
		}
		require.Equal(t, read(), read())
	})
}

// Whatever is given for the store, it is known to be one or refused, and no refusal
// repeats the password in it.
func FuzzStoreURL(f *testing.F) {
	for _, at := range []string{
		"sqlite:data", "sqlite:", "memory:", "nats://HOST", "esdb+discover://HOST?tls=false", "HOST", "://", "nats:HOST", "esdb:HOST",
	} {
		f.Add(at)
	}
	const secret = "xS3CR3Tx"
	f.Fuzz(func(t *testing.T, at string) {
		if strings.Contains(at, secret) {
			return
		}
		_ = checkStoreURL(at)
		with := strings.ReplaceAll(at, "HOST", "user:"+secret+"@127.0.0.1:1")
		if err := checkStoreURL(with); err != nil && storeKind(with) != kindSQLite && strings.Contains(err.Error(), secret) {
			t.Fatal(err)
		}
	})
}
