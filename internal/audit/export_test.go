package audit

// Keeping is a walker that keeps so few rows in its books, and gives them up when so
// many events were recorded meanwhile.
func (c WalkerConfig) Keeping(rows int, gap uint64) WalkerConfig {
	c.kept, c.gap = rows, gap
	return c
}
