package sim

import (
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

// Run runs f in virtual time, outside of a test: time moves when every goroutine that f has
// started waits. It returns once they have all ended; a panic of f is an error, and so are goroutines
// that never end.
func Run(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("sim: bubble: %v", p))
		}
	}()
	synctest.Test(new(testing.T), func(*testing.T) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("sim: panic: %v\n%s", p, debug.Stack())
			}
		}()
		err = f()
	})
	return err
}
