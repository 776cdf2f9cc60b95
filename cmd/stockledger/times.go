package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A calendar reads the times that people write. What has no zone is in the
// calendar's.
//
// The libraries that do so guess: one takes 12 hours ago for another hour where
// clocks change between, one reads 2010-13-45 as today, 13:45, and one knows a
// language in which mug is a date. An audit must not be told a time that was not
// asked for, so what is not exactly one of the forms is refused.
type calendar struct {
	now  time.Time
	zone *time.Location
}

// here is the calendar of the machine the program runs on. Its now is as fine as
// the times of the ledger are.
func here() calendar { return calendar{time.Now().Truncate(time.Microsecond), time.Local} }

// timeForms are the forms, by example. Those of a point in time that is the same
// whenever it is named come first.
const (
	timeForms     = "2006-01-02T15:04:05Z, 2006-01-02T15:04 or 2006-01-02"
	relativeForms = "now, today, yesterday, yesterday 17:30, last monday, 2h ago or 3 days ago"
)

// parse reads a time, or a day, which is its first moment.
func (c calendar) parse(text string) (time.Time, error) {
	words := strings.Fields(strings.ToLower(text))
	t, err := c.relative(words)
	if t.IsZero() && err == nil {
		if t, err = c.absolute(text); errors.Is(err, errNoTime) {
			err = fmt.Errorf("%w; or %s", err, relativeForms)
		}
	}
	if t = t.UTC(); err == nil && (t.Year() < 1 || t.Year() > 9999) {
		err = fmt.Errorf("%q is in the year %d; years go from 1 to 9999", text, t.Year())
	}
	return t, err
}

var errNoTime = errors.New("is not a time")

// relative reads what depends on when it is said; the zero time for anything else.
func (c calendar) relative(words []string) (time.Time, error) {
	if len(words) > 1 && words[0] == "last" {
		if _, found := weekdays[words[1]]; !found {
			return time.Time{}, nil
		}
		words = words[1:]
	}
	switch n := len(words); {
	case n == 1 && words[0] == "now":
		return c.now, nil
	case n > 1 && words[n-1] == "ago":
		return c.ago(strings.Join(words[:n-1], ""))
	case n == 1 || n == 2:
		day, found := c.day(words[0])
		if !found {
			return time.Time{}, nil
		}
		if n == 2 {
			return c.absolute(day.Format(time.DateOnly) + " " + words[1])
		}
		return c.dawn(day), nil
	}
	return time.Time{}, nil
}

var weekdays = map[string]time.Weekday{
	"sunday": 0, "monday": 1, "tuesday": 2, "wednesday": 3, "thursday": 4, "friday": 5, "saturday": 6,
}

// day is the date that a word names, in UTC, where every day has 24 hours. A day
// of the week is the last one before today.
func (c calendar) day(word string) (time.Time, bool) {
	y, m, d := c.now.In(c.zone).Date()
	today := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	switch word {
	case "today":
		return today, true
	case "yesterday":
		return today.AddDate(0, 0, -1), true
	}
	weekday, found := weekdays[word]
	back := (int(today.Weekday())-int(weekday)+6)%7 + 1
	return today.AddDate(0, 0, -back), found
}

var spans = regexp.MustCompile(`^(\d{1,6})(d|days?|w|weeks?|h|hours?|m|min|minutes?|s|sec|seconds?)$`)

// ago goes back: by so much time in hours and less, to the same time of an
// earlier day in days and weeks.
func (c calendar) ago(span string) (time.Time, error) {
	if d, err := time.ParseDuration(span); err == nil && d >= 0 { // such as 1h30m
		return c.now.Add(-d), nil
	}
	found := spans.FindStringSubmatch(span)
	if found == nil {
		return time.Time{}, nil
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		return time.Time{}, err
	}
	switch found[2][0] {
	case 'w':
		n *= 7
		fallthrough
	case 'd':
		return c.on(wall(c.now.In(c.zone)).AddDate(0, 0, -n))
	case 'h':
		return c.now.Add(-time.Duration(n) * time.Hour), nil
	case 'm':
		return c.now.Add(-time.Duration(n) * time.Minute), nil
	}
	return c.now.Add(-time.Duration(n) * time.Second), nil
}

// absolute reads what means the same whenever it is said.
func (c calendar) absolute(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	dense := strings.Replace(text, " ", "T", 1)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, dense); err == nil {
			return t.UTC(), nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, dense); err == nil {
			return c.on(t)
		}
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return c.dawn(t), nil
	}
	return time.Time{}, fmt.Errorf("%q %w; write %s", text, errNoTime, timeForms)
}

// on is the instant at which clocks show t. Where clocks change there may be none,
// or two.
func (c calendar) on(t time.Time) (time.Time, error) {
	switch at := c.showing(t); len(at) {
	case 1:
		return at[0].UTC(), nil
	case 0:
		return time.Time{}, fmt.Errorf("clocks in %s never showed %s: they were put forward; write the time with its zone, such as %s",
			c.zone, t.Format("2006-01-02 15:04:05"), t.Format(time.RFC3339))
	default:
		return time.Time{}, fmt.Errorf("clocks in %s showed %s twice: they were put back; write %s or %s",
			c.zone, t.Format("2006-01-02 15:04:05"), at[0].Format(time.RFC3339), at[1].Format(time.RFC3339))
	}
}

// dawn is the first moment of the day.
func (c calendar) dawn(day time.Time) time.Time {
	if at := c.showing(day); len(at) > 0 {
		return at[0].UTC()
	}
	_, changed := day.Add(-36 * time.Hour).In(c.zone).ZoneBounds() // clocks skipped midnight
	return changed.UTC()
}

// showing are the instants at which clocks show t, the earliest first.
func (c calendar) showing(t time.Time) (at []time.Time) {
	for _, beside := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := t.Add(beside).In(c.zone).Zone()
		one := t.Add(-time.Duration(offset) * time.Second).In(c.zone)
		if wall(one).Equal(t) && (len(at) == 0 || !at[0].Equal(one)) {
			at = append(at, one)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// wall is what clocks show at t, as if they were in UTC.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}

// rfc3339 is an instant as the program shows what it understood.
func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
