package natsapi

// Copies are the requests that a service answers once each.
type Copies struct{ *copies }

// NewCopies are such that remember so many refusals.
func NewCopies(most int) Copies {
	c := Copies{newCopies()}
	c.most = most
	return c
}

// Answer is answer.
func (c Copies) Answer(request string, carryOut func() ([]byte, error)) ([]byte, error) {
	return c.answer(request, carryOut)
}

// Kept is how many requests it knows.
func (c Copies) Kept() int { return len(c.of) }
