package fsm_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/store"
)

// TestAnEpochFitsOneCommit: in the worst epoch every record of the fullest market changes. Each is written once and stands once
// among what the commitment does not cover yet; beside them a proof's own writes are small.
func TestAnEpochFitsOneCommit(t *testing.T) {
	const keyMax = 32 // beside an owner: the names of the records
	size := func(v any) int64 {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return int64(len(b))
	}
	owner := strings.Repeat("x", market.OwnerBytesMax)
	numbers := make([]int64, market.LicencesTotalMax/market.HoldersMax)
	for i := range numbers {
		numbers[i] = math.MaxInt64
	}
	holder := size(market.Holder{Owner: owner, Balance: math.MaxInt64, Value: math.MaxInt64, TaxedMillis: math.MaxInt64, Licences: numbers})
	licence := size(market.Licence{Number: math.MaxInt64, Owner: owner, Resource: math.MaxUint8, Quantity: math.MaxInt64, Price: math.MaxInt64,
		IssuedMillis: math.MaxInt64, DeclaredMillis: math.MaxInt64})
	all := market.HoldersMax*(holder+2*(keyMax+market.OwnerBytesMax)) + market.LicencesTotalMax*(licence+2*keyMax)
	t.Logf("at most %d MiB of %d", all>>20, store.CommitBytesMax>>20)
	if all > store.CommitBytesMax*9/10 {
		t.Errorf("an epoch may write %d bytes, and a commit takes %d", all, store.CommitBytesMax)
	}
}
