package projections

// KnownColumns are the columns of a table whose meaning snapshots know, nil for a
// table they do not know.
func KnownColumns(model, table string) []string {
	var known []string
	for column := range shapeOf(model, table).columns {
		known = append(known, column)
	}
	return known
}

// KnownTables are how many tables snapshots know.
func KnownTables() int { return len(shapes) }
