package natsapi

// AnswerIn reads the reply to a command.
func AnswerIn(reply []byte) (Answer, error) { return answerIn(reply) }

// IsPlain reports whether it is one that is read without json.Unmarshal.
func IsPlain(reply []byte) bool {
	_, plain := plainAnswer(reply)
	return plain
}
