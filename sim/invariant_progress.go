package sim

import (
	"context"
	"time"
)

// progress: once all is healed, what was committed is attested within the stated virtual time,
// and every node has caught up.
type progress struct{ promise }

// within waits for what must happen once all is healed.
func (p *progress) within(ctx context.Context, limit time.Duration, what string, holds func() (bool, error)) error {
	p.checks.Add(1)
	began := time.Now()
	err := p.auditor.world.Within(ctx, limit, what, holds)
	if err != nil && ctx.Err() == nil && p.auditor.Broken() == nil {
		p.breaks("%v after all was healed: %w", time.Since(began), err)
		return p.auditor.Broken()
	}
	return err
}
