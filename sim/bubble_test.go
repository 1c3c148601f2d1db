package sim

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBubbleOfAZeroT pins what no documentation promises: a testing.T that nobody made is enough to
// have a bubble outside of a test, and a day passes in it at once.
func TestBubbleOfAZeroT(t *testing.T) {
	t.Parallel()
	var passed time.Duration
	began := time.Now()
	synctest.Test(new(testing.T), func(*testing.T) {
		start := time.Now()
		done := make(chan struct{})
		go func() {
			<-time.After(24 * time.Hour)
			close(done)
		}()
		<-done
		synctest.Wait()
		passed = time.Since(start)
	})
	if took := time.Since(began); passed != 24*time.Hour || took > time.Minute {
		t.Errorf("%v passed in the bubble, %v outside", passed, took)
	}
}

// TestBubbleLeft by its owner while others wait for ever in it is an error, and the process goes on.
func TestBubbleLeft(t *testing.T) {
	t.Parallel()
	err := Run(func() error {
		go func() { <-make(chan int) }()
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "deadlock") {
		t.Errorf("a goroutine that never ends gave %v", err)
	}
}
