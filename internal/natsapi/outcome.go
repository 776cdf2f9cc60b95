package natsapi

import "github.com/stockledger/stockledger/internal/fault"

// Status is what became of a submission.
type Status string

// What can become of a submission.
const (
	Committed Status = "committed" // carried out; Answer is what it was answered
	Refused   Status = "refused"   // not carried out, and it had no effect; Refusal says why
	Unknown   Status = "unknown"   // given up on, and it may have been carried out; submitting it again with its key tells
)

// Outcome is what became of a submission, as it is on inventory.result.<key>.
type Outcome struct {
	CommandID string        `json:"command_id"`
	Status    Status        `json:"status"`
	Answer    *Answer       `json:"answer,omitempty"`
	Refusal   *fault.Answer `json:"refusal,omitempty"`
}
