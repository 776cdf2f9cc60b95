package main

import (
	"testing"
	"time"
	_ "time/tzdata" // the zones below, wherever the test runs

	"github.com/stretchr/testify/require"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	require.NoError(t, err)
	return z
}

func TestTimesThatPeopleWrite(t *testing.T) {
	t.Parallel()
	const (
		winter = "2026-01-14T10:30:00Z" // a Wednesday, 11:30 in Paris
		spring = "2026-03-29T10:00:00Z" // a Sunday: clocks in Paris went forward this morning
		autumn = "2026-10-25T10:00:00Z" // a Sunday: clocks in Paris went back this morning
	)
	for _, c := range []struct{ zone, now, text, want string }{
		// With a zone, nothing else counts.
		{"Europe/Paris", winter, "2010-12-03T12:00Z", "2010-12-03T12:00:00Z"},
		{"Europe/Paris", winter, "2010-12-03T12:00:00Z", "2010-12-03T12:00:00Z"},
		{"Europe/Paris", winter, "2010-12-03 12:00Z", "2010-12-03T12:00:00Z"},
		{"Europe/Paris", winter, "2010-12-03T12:00:00.25+05:30", "2010-12-03T06:30:00.25Z"},
		{"Europe/Paris", winter, "2010-12-03T12:00-08:00", "2010-12-03T20:00:00Z"},

		// Without one, it is the time that clocks show here.
		{"Europe/Paris", winter, "2010-12-03", "2010-12-02T23:00:00Z"},
		{"UTC", winter, "2010-12-03", "2010-12-03T00:00:00Z"},
		{"Europe/Paris", winter, "2010-07-03T12:00", "2010-07-03T10:00:00Z"},
		{"Europe/Paris", winter, " 2010-12-03 12:00:30 ", "2010-12-03T11:00:30Z"},
		{"Europe/Paris", winter, "2010-12-03T12:00:00.5", "2010-12-03T11:00:00.5Z"},
		{"Asia/Kathmandu", winter, "2010-12-03", "2010-12-02T18:15:00Z"},
		{"Europe/Paris", winter, "2024-02-29", "2024-02-28T23:00:00Z"},

		// Relative to now.
		{"Europe/Paris", winter, "now", winter},
		{"Europe/Paris", winter, "NOW", winter},
		{"Europe/Paris", winter, "today", "2026-01-13T23:00:00Z"},
		{"Europe/Paris", winter, "Yesterday", "2026-01-12T23:00:00Z"},
		{"Europe/Paris", winter, "yesterday 17:30", "2026-01-13T16:30:00Z"},
		{"Europe/Paris", winter, "today 09:00:05", "2026-01-14T08:00:05Z"},
		{"Europe/Paris", winter, "last monday", "2026-01-11T23:00:00Z"},
		{"Europe/Paris", winter, "monday 8:15", "2026-01-12T07:15:00Z"},
		{"Europe/Paris", winter, "last wednesday", "2026-01-06T23:00:00Z"}, // today is one
		{"Europe/Paris", winter, "thursday", "2026-01-07T23:00:00Z"},
		{"Europe/Paris", winter, "2h ago", "2026-01-14T08:30:00Z"},
		{"Europe/Paris", winter, "2 hours ago", "2026-01-14T08:30:00Z"},
		{"Europe/Paris", winter, "1 hour ago", "2026-01-14T09:30:00Z"},
		{"Europe/Paris", winter, "1h30m ago", "2026-01-14T09:00:00Z"},
		{"Europe/Paris", winter, "90 minutes ago", "2026-01-14T09:00:00Z"},
		{"Europe/Paris", winter, "45 min  ago", "2026-01-14T09:45:00Z"},
		{"Europe/Paris", winter, "30 seconds ago", "2026-01-14T10:29:30Z"},
		{"Europe/Paris", winter, "3 days ago", "2026-01-11T10:30:00Z"},
		{"Europe/Paris", winter, "1d ago", "2026-01-13T10:30:00Z"},
		{"Europe/Paris", winter, "2 weeks ago", "2025-12-31T10:30:00Z"},
		{"Asia/Tokyo", "2026-01-14T20:00:00Z", "today", "2026-01-14T15:00:00Z"}, // it is the 15th there

		// The days on which clocks change have 23 and 25 hours.
		{"Europe/Paris", spring, "today", "2026-03-28T23:00:00Z"},
		{"Europe/Paris", spring, "1 day ago", "2026-03-28T11:00:00Z"}, // 12:00 both days
		{"Europe/Paris", spring, "24h ago", "2026-03-28T10:00:00Z"},
		{"Europe/Paris", spring, "12 hours ago", "2026-03-28T22:00:00Z"},
		{"Europe/Paris", spring, "2026-03-29T01:59:59", "2026-03-29T00:59:59Z"},
		{"Europe/Paris", spring, "2026-03-29T03:00", "2026-03-29T01:00:00Z"},
		{"Europe/Paris", "2026-03-30T10:00:00Z", "yesterday", "2026-03-28T23:00:00Z"},
		{"Europe/Paris", "2026-03-30T10:00:00Z", "today", "2026-03-29T22:00:00Z"},
		{"Europe/Paris", autumn, "today", "2026-10-24T22:00:00Z"},
		{"Europe/Paris", autumn, "1 day ago", "2026-10-24T09:00:00Z"}, // 11:00 both days
		{"Europe/Paris", autumn, "2026-10-25T02:30+02:00", "2026-10-25T00:30:00Z"},
		{"Europe/Paris", autumn, "2026-10-25T01:59", "2026-10-24T23:59:00Z"},
		{"Europe/Paris", autumn, "2026-10-25T03:00", "2026-10-25T02:00:00Z"},

		// A day begins where clocks skip midnight, or show it twice, or a day was left out.
		{"America/Sao_Paulo", winter, "2018-11-04", "2018-11-04T03:00:00Z"},
		{"America/Havana", winter, "2025-11-02", "2025-11-02T04:00:00Z"},
		{"Pacific/Apia", winter, "2011-12-30", "2011-12-30T10:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		require.NoError(t, err)
		got, err := calendar{now, zone(t, c.zone)}.parse(c.text)
		require.NoError(t, err, "%s in %s", c.text, c.zone)
		require.Equal(t, c.want, rfc3339(got), "%q in %s at %s", c.text, c.zone, c.now)
	}
}

func TestWhatIsNoTimeIsRefused(t *testing.T) {
	t.Parallel()
	paris := calendar{time.Date(2026, 10, 25, 10, 0, 0, 0, time.UTC), zone(t, "Europe/Paris")}
	for text, why := range map[string]string{
		"":                    "is not a time",
		"mug":                 "is not a time",
		"10":                  "is not a time",
		"1792921200":          "is not a time",
		"03/12/2010":          "is not a time",
		"2010-13-45":          "is not a time",
		"2010-02-29":          "is not a time",
		"2010-12-03T25:00Z":   "is not a time",
		"2010-12-03 12:00 CE": "is not a time",
		"2010-12-03T12:00:61": "is not a time",
		"yesterdya":           "is not a time",
		"yesterday noon":      "is not a time",
		"yesterday 24:30":     "is not a time",
		"tomorrow":            "is not a time",
		"last":                "is not a time",
		"last week":           "is not a time",
		"last yesterday":      "is not a time",
		"ago":                 "is not a time",
		"-2h ago":             "is not a time",
		"2.5 days ago":        "is not a time",
		"two days ago":        "is not a time",
		"2 months ago":        "is not a time",
		"9999999 days ago":    "is not a time",
		"in 2h":               "is not a time",
		"now ago":             "is not a time",
		"now now":             "is not a time",
		"2026-03-29T02:30":    "never showed 2026-03-29 02:30:00",
		"2026-10-25T02:30":    "showed 2026-10-25 02:30:00 twice: they were put back; write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00",
		"today 02:30":         "twice",
		"999999w ago":         `"999999w ago" is in the year -17139; years go from 1 to 9999`,
		"0000-01-01":          "is in the year -1",
	} {
		got, err := paris.parse(text)
		require.ErrorContains(t, err, why, "%q was read as %v", text, got)
	}
}
