package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/pci"
)

// TestAPIErrors puts every error that the parts may return into the interface's words:
// what may be sent again is never called a fault of the node.
func TestAPIErrors(t *testing.T) {
	for _, err := range []error{link.ErrUnavailable, link.ErrUnknownOutcome, region.ErrNotLeader, region.ErrNotFounded, region.ErrClockOff,
		region.ErrClosed, region.ErrFailed, region.ErrUnknownOutcome, errNoState, errNoLeader} {
		var un *api.Unavailable
		if got := apiError(fmt.Errorf("deep: %w", err)); !errors.As(got, &un) || un.Reason == "" {
			t.Errorf("%v became %v", err, got)
		}
	}
	for _, err := range []error{&link.OverloadedError{Reason: "x", RetryAfter: 2}, &region.OverloadedError{RetryAfter: 2}} {
		var over *api.Overloaded
		if got := apiError(fmt.Errorf("deep: %w", err)); !errors.As(got, &over) || over.RetryAfter != 2 {
			t.Errorf("%v became %v", err, got)
		}
	}
	if got := apiError(link.ErrTooLarge); pci.CodeOf(got) != pci.RejectSchema {
		t.Errorf("too large became %v", got)
	}
	if got := apiError(context.Canceled); !errors.Is(got, context.Canceled) {
		t.Errorf("a context's end became %v", got)
	}
}
