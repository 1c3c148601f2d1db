package rounds

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoundsAreAsFarApartAsTheySay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Rounds
		var at []time.Duration
		began := time.Now()
		r.Start(time.Second, func() time.Duration {
			at = append(at, time.Since(began))
			if len(at) == 4 {
				return End
			}
			return time.Duration(len(at)) * time.Second
		})
		<-time.After(time.Hour)
		synctest.Wait()
		want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 7 * time.Second}
		if len(at) != len(want) {
			t.Fatalf("%d rounds", len(at))
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("round %d after %v, not %v", i, at[i], want[i])
			}
		}
		r.Within(0)
		r.Stop()
		r.Stop()
		if len(at) != 4 {
			t.Error("a round after the last")
		}
	})
}

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Rounds
		var count atomic.Int32
		var last atomic.Pointer[time.Time]
		var work atomic.Int64
		r.Within(0) // before it has begun
		r.Start(time.Hour, func() time.Duration {
			<-time.After(time.Duration(work.Load()))
			now := time.Now()
			last.Store(&now)
			count.Add(1)
			return time.Hour
		})
		rounds := func(want int32, why string) {
			t.Helper()
			synctest.Wait()
			if got := count.Load(); got != want {
				t.Fatalf("%s: %d rounds, want %d", why, got, want)
			}
		}
		r.Within(2 * time.Hour)
		<-time.After(time.Minute)
		rounds(0, "later than it is due anyway")
		r.Within(time.Second)
		r.Within(time.Minute)
		<-time.After(time.Second)
		rounds(1, "sooner")
		<-time.After(time.Hour - time.Second)
		rounds(1, "an hour is counted from the last round")
		<-time.After(time.Second)
		rounds(2, "an hour later")

		work.Store(int64(time.Minute))
		r.Within(0)
		<-time.After(time.Second) // it works
		r.Within(2 * time.Minute)
		r.Within(90 * time.Second)
		<-time.After(time.Minute)
		rounds(3, "the one that was under way")
		ended := *last.Load()
		<-time.After(2 * time.Minute)
		rounds(4, "one that was wanted meanwhile")
		if got := last.Load().Sub(ended); got != 91*time.Second {
			t.Errorf("it came %v after the one before, and began %v too late", got, got-91*time.Second)
		}
		r.Stop()
		<-time.After(2 * time.Hour)
		rounds(4, "stopped")
	})
}

func TestStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var never, idle, busy Rounds
		never.Stop()
		never.Start(0, func() time.Duration { t.Error("started after its end"); return End })
		idle.Start(time.Hour, func() time.Duration { t.Error("a round after Stop"); return End })
		idle.Stop()
		var done bool
		busy.Start(0, func() time.Duration {
			<-time.After(time.Minute)
			done = true
			return 0
		})
		<-time.After(time.Second)
		busy.Stop()
		if !done {
			t.Error("Stop did not wait")
		}
		<-time.After(3 * time.Hour)
	})
}
