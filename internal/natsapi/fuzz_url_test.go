package natsapi_test

import (
	"strings"
	"testing"

	"github.com/stockledger/stockledger/internal/natsapi"
)

// Whatever is given for the URLs of NATS servers, it is read or refused, and
// nothing that is shown of it has the password.
func FuzzURL(f *testing.F) {
	for _, rest := range []string{
		"127.0.0.1:4222", "a,b", "a, nats://u:p@b", "", "@", "a/b@c", "a?x=@", "a#@", "%zz", "[::1", "\n", "a\\@b",
	} {
		for _, scheme := range []string{"", "nats://", "tls://", "ws://", "x", "://"} {
			f.Add(scheme, rest)
		}
	}
	const secret = "xS3CR3Tx"
	f.Fuzz(func(t *testing.T, scheme, rest string) {
		if strings.Contains(scheme+rest, secret) {
			return
		}
		urls := scheme + "user:" + secret + "@" + rest
		if err := natsapi.CheckURL(urls); err != nil && strings.Contains(err.Error(), secret) {
			t.Fatal(err)
		}
		if shown := natsapi.Redacted(urls); strings.Contains(shown, secret) {
			t.Fatal(shown)
		}
	})
}
