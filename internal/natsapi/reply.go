package natsapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// Answer is the reply to an accepted command.
type Answer struct {
	commands.Answer
	// ResultOmitted says why Result is null although the command has one.
	ResultOmitted string `json:"result_omitted,omitempty"`
}

// omit leaves the result out of an answer that NATS would not carry. The command
// is carried out, and its publisher must hear of it.
func omit(answer commands.Answer, size int, limit int64) Answer {
	const advice = "the answer has %d bytes and this NATS server carries at most %d; the command was carried out: send fewer " +
		"lines at once, or raise max_payload of the server, and the query retrieve-command has the answer"
	answer.Result = json.RawMessage("null")
	return Answer{answer, fmt.Sprintf(advice, size, limit)}
}

// fit is the answer as JSON of at most limit bytes.
func fit(answer commands.Answer, limit int64) ([]byte, error) {
	body, err := json.Marshal(Answer{Answer: answer})
	if err != nil || int64(len(body)) <= limit {
		return body, err
	}
	return json.Marshal(omit(answer, len(body), limit))
}

// answerIn reads the reply to an accepted command.
func answerIn(reply []byte) (Answer, error) {
	if plain, ok := plainAnswer(reply); ok {
		return Answer{Answer: plain}, nil
	}
	var answer Answer
	err := json.Unmarshal(reply, &answer)
	return answer, err
}

// plainAnswer reads a reply that is written just as fit writes most of them, and
// leaves all others to json.Unmarshal, which takes 4.9 µs of processor time where this
// takes 1.1.
func plainAnswer(reply []byte) (a commands.Answer, ok bool) {
	values, ok := between(reply, `{"command_id":"`, `","position":`, `,"replayed":`, `,"dry_run":`, `,"result":`, `}`)
	if !ok {
		return a, false
	}
	key, position, replayed, dryRun, result := values[0], values[1], values[2], values[3], values[4]
	if bytes.ContainsFunc(key, func(r rune) bool { return r < ' ' || r >= utf8.RuneSelf || r == '"' || r == '\\' }) {
		return a, false
	}
	a = commands.Answer{CommandID: string(key), Replayed: string(replayed) == "true", DryRun: string(dryRun) == "true", Result: result}
	var err error
	a.Position, err = strconv.ParseUint(string(position), 10, 64)
	return a, err == nil && (position[0] != '0' || len(position) == 1) &&
		(a.Replayed || string(replayed) == "false") && (a.DryRun || string(dryRun) == "false") &&
		len(bytes.TrimSpace(result)) == len(result) && json.Valid(result)
}

// between cuts a text that begins and ends with the first and the last of the
// marks into what is between them.
func between(text []byte, first, second, third, fourth, fifth, last string) (values [5][]byte, ok bool) {
	text, begins := bytes.CutPrefix(text, []byte(first))
	text, ends := bytes.CutSuffix(text, []byte(last))
	ok = begins && ends
	for i, mark := range [...]string{second, third, fourth, fifth} {
		var found bool
		values[i], text, found = bytes.Cut(text, []byte(mark))
		ok = ok && found
	}
	values[4] = text
	return values, ok
}

// The bounds on a refusal that repeats what the publisher wrote, in bytes.
const (
	maxErrorHeader  = 512
	maxErrorMessage = 16 << 10
	// headerRoom is what headers of ours take at most.
	headerRoom = 4 << 10
)

// refusal is an error as a message, with the headers of a NATS micro service.
func refusal(err error, limit int64) *nats.Msg {
	public := fault.Public(err)
	body, marshalErr := json.Marshal(public)
	if marshalErr != nil || int64(len(body)) > limit-headerRoom {
		public.Message, public.Details = shorten(public.Message, maxErrorMessage), nil
		body, _ = json.Marshal(public) // texts only
	}
	return &nats.Msg{Data: body, Header: nats.Header{
		micro.ErrorHeader:     {headerText(public.Message, maxErrorHeader)},
		micro.ErrorCodeHeader: {strconv.Itoa(fault.Of(err).Kind.Status())},
	}}
}

// headerText is a text that a header can carry.
func headerText(text string, limit int) string {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, shorten(text, limit))
	return strings.TrimSpace(line)
}

// shorten cuts a text between two characters.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}
