package region

import (
	"testing"
	"time"
)

func TestClockOffset(t *testing.T) {
	s := time.Second
	for name, c := range map[string]struct {
		others []time.Duration
		want   time.Duration
	}{
		"alone":                        {nil, 0},
		"all agree":                    {[]time.Duration{0, 0}, 0},
		"mine is slow":                 {[]time.Duration{9 * s, 10 * s}, 9 * s},
		"mine is fast":                 {[]time.Duration{-9 * s, -10 * s}, -9 * s},
		"one of three is off":          {[]time.Duration{0, 10 * s}, 0},
		"one other proves nothing":     {[]time.Duration{10 * s}, 0},
		"one other behind nothing too": {[]time.Duration{-10 * s}, 0},
		"two of four are ahead":        {[]time.Duration{0, 8 * s, 9 * s}, 0},
		"three of four are ahead":      {[]time.Duration{7 * s, 8 * s, 9 * s}, 7 * s},
		"of five":                      {[]time.Duration{s, 3 * s, 4 * s, 5 * s}, 3 * s},
	} {
		if got := clockOffset(c.others); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestClockJumped(t *testing.T) {
	now := time.Now()
	at := func(t time.Time) clockLook { return clockLook{t, t.Round(0)} }
	if got := at(now).jumped(at(now.Add(time.Hour))); got != 0 {
		t.Errorf("time that passes is a jump of %v", got)
	}
	look := at(now)
	look.wall = look.wall.Add(-3 * time.Second) // the wall clock was set forward since
	if got := look.jumped(at(now.Add(time.Minute))); got != 3*time.Second {
		t.Errorf("a clock set forward by 3 s: %v", got)
	}
}
