package link

import (
	"context"
	"fmt"
	"time"
)

// set gives a field that was left zero its default.
func set[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

type duration struct {
	name string
	v    time.Duration
}

func positive(what string, ds ...duration) error {
	for _, d := range ds {
		if d.v < 0 {
			return fmt.Errorf("%s: %s is %v: it must be positive", what, d.name, d.v)
		}
	}
	return nil
}

// sleep waits; it says whether the context let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
