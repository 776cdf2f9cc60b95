package projections

// nested compiles a selector of another table.
type nested func(c compiler, value any) (term, error)

// levelsOfItem selects the items that have a level that all of the selectors
// are true of.
func levelsOfItem(c compiler, value any) (term, error) {
	selectors, ok := value.(map[string]any)
	if !ok {
		return term{}, wrongType("location_levels", "selectors")
	}
	inner := c
	inner.table = &levelsTable
	terms, err := inner.all(selectors)
	if err != nil {
		return term{}, err
	}
	return c.hasLevel(terms), nil
}

// atLocation selects the items that have a level at a location.
func atLocation(c compiler, value any) (term, error) {
	inner := c
	inner.table = &levelsTable
	t, err := inner.column(column{"location_id", asText}, value)
	return c.hasLevel([]term{t}), err
}

func (c compiler) hasLevel(terms []term) term {
	found := joinedTerm(terms, ` AND `, `TRUE`)
	text := `EXISTS (SELECT 1 FROM levels WHERE levels.inventory_item_id = items.id AND ` + found.text
	if !c.withDeleted {
		text += ` AND levels.deleted_at IS NULL`
	}
	has := term{text: text + `)`, args: found.args}
	for _, t := range terms {
		for _, r := range t.routes {
			has.routes = append(has.routes, r.onward(`items.position`,
				` CROSS JOIN levels ON levels.position = near.at CROSS JOIN items ON items.id = levels.inventory_item_id`))
		}
	}
	return has
}

// servesChannel selects the open locations that serve a sales channel.
func servesChannel(c compiler, value any) (term, error) {
	t, err := c.column(column{"sales_channel_id", asText}, value)
	return term{
		text: `locations.id IN (SELECT location_id FROM (SELECT id AS sales_channel_id, location_id FROM location_links
			WHERE kind = 'sales_channel') WHERE ` + t.text + `)`,
		args: t.args,
	}, err
}

// hasAddress selects the locations that have an address, or those that have none.
func hasAddress(_ compiler, value any) (term, error) {
	if value == nil {
		return term{text: `(address IS NULL)`}, nil
	}
	operators, _ := value.(map[string]any)
	there, ok := operators["$exists"].(bool)
	if !ok || len(operators) != 1 {
		return term{}, wrongType("address", "{$exists}")
	}
	if there {
		return term{text: `(address IS NOT NULL)`}, nil
	}
	return term{text: `(address IS NULL)`}, nil
}

// itemOfReservation is the term that the item of a reservation has a token in
// what is searched of items.
func itemOfReservation(_ compiler, token string) term {
	found := itemsTable.search.holds(token)
	has := term{
		text: `EXISTS (SELECT 1 FROM items WHERE items.id = reservations.inventory_item_id AND ` + found.text + `)`,
		args: found.args,
	}
	for _, r := range found.routes {
		has.routes = append(has.routes, r.onward(`reservations.position`,
			` CROSS JOIN items ON items.position = near.at CROSS JOIN reservations ON reservations.inventory_item_id = items.id`))
	}
	return has
}

// onward leads from what a route finds in another table to positions in this one.
func (r route) onward(at, join string) route {
	var out route
	for _, l := range r.legs {
		out.legs = append(out.legs, leg{at: at, from: `(` + l.text("") + `) AS near`, join: join, args: l.args})
	}
	return out
}
