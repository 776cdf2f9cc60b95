package commands_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// While the commit of a key is on its way to the disk the key comes again, with the
// same command and with another one. One of them is carried out, once: who sent the
// same gets the same answer, and who sent another hears that the key is taken; nobody
// hears anything before the disk has answered. If the append fails, it may be either.
func TestAKeyThatComesAgainWhileItsCommitIsOnItsWay(t *testing.T) {
	for name, cause := range map[string]error{"it is appended": nil, "the append fails": errDisk} {
		t.Run(name, func(t *testing.T) {
			store := newFlaky()
			s := openShop(t, store)
			s.stocked("cup", "paris", 5)
			entered, release := make(chan struct{}), make(chan struct{})
			store.onAppend(func(commits []events.Commit) ([]uint64, error) {
				store.onAppend(nil)
				close(entered)
				<-release
				if cause != nil {
					return nil, cause
				}
				return store.record(commits...), nil
			})
			type end struct {
				answer commands.Answer
				err    error
			}
			send := func(body string) <-chan end {
				ended := make(chan end, 1)
				go func() {
					answer, err := s.try("adjust-inventory-levels", body, keyed("k"))
					ended <- end{answer, err}
				}()
				return ended
			}
			const twoOff = cupHas + `"adjustment":-2}]`
			first := send(oneOff)
			<-entered
			same, other := send(oneOff), send(twoOff)
			soon(t, func() bool { return s.Waiting() == 2 }, "both are decided")
			require.Empty(t, first)
			require.Empty(t, same)
			require.Empty(t, other)
			close(release)

			done, again, left := <-first, []end{<-same}, "4"
			taken := []end{<-other}
			if cause != nil && done.err != nil {
				done, again, taken, left = taken[0], nil, append(again, done), "3"
			}
			require.NoError(t, done.err)
			for _, a := range again {
				require.NoError(t, a.err)
				a.answer.Replayed = done.answer.Replayed
				require.Equal(t, done.answer, a.answer)
			}
			for _, o := range taken {
				requireRefused(t, "idempotency_key_reused", `{"command_id":"k"}`, o.err)
				require.Equal(t, fault.Conflict, fault.Of(o.err).Kind)
			}
			require.Equal(t, left, s.level("cup", "paris").StockedQuantity.String())
			require.Equal(t, 1, s.commitsOf()["k"])
			s.agreesWithTheLog()
		})
	}
}
