package natsstore

import (
	"strings"
	"testing"
)

// Whatever is given for the URL of a log, it is read or refused, and no refusal
// repeats the password in it.
func FuzzURL(f *testing.F) {
	for _, rest := range []string{
		"n1:4222/main?replicas=3", "n1,n2:1,n3/x", "", "?", "[::1]:2113?tls=false&ledger=main", "a,b?maxAppendSize=99999999999999999999",
		"h?tls=true&discoveryInterval=-1&gossipTimeout=x", "h/%zz", "h?a=%zz", "h:99999", "h?keepAliveInterval=0&nodePreference=follower",
	} {
		for _, scheme := range []string{"nats", "tls", "esdb", "esdb+discover", "kurrentdb"} {
			f.Add(scheme, rest)
		}
	}
	const secret = "xS3CR3Tx"
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		if strings.Contains(scheme+rest, secret) {
			return
		}
		_ = CheckURL(scheme + "://" + rest)
		if err := CheckURL(scheme + "://user:" + secret + "@" + rest); err != nil && strings.Contains(err.Error(), secret) {
			t.Fatal(err)
		}
	})
}
