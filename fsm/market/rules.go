package market

import (
	"errors"
	"fmt"
)

// Credits are counted in micro-credits, time in milliseconds of log time.
const (
	// Credit is one credit in micro-credits: the least price of a licence and the least payment.
	Credit = 1_000_000

	// TaxPercentPerHour is the tax on a declared price, in proportion to the time that it stands.
	TaxPercentPerHour = 5
	// LapseMillis is how long a declaration stands without being renewed.
	LapseMillis = 24 * hourMillis
	// EpochMillis is the time between two epochs.
	EpochMillis = hourMillis

	// GiniLimitPercent is the Gini coefficient, in hundredths, above which nobody may push it.
	GiniLimitPercent = 35
	// GiniAlertPercent is the Gini coefficient, in hundredths, from which an operator is told.
	GiniAlertPercent = 40
	// FloorDivisor is how many times the declared value of a holder may go into the mean: 4, so a quarter of it.
	FloorDivisor = 4
	// IhsanMin is the Ihsan score that whoever obtains or keeps a licence has at least.
	IhsanMin = 0.95

	hourMillis = 3_600_000
	// timeMillisMax is the last log time: some thirty million years on.
	timeMillisMax = 1 << 60
	// taxDivisor turns price times milliseconds into tax.
	taxDivisor = hourMillis * 100 / TaxPercentPerHour
)

// Limits. Together they keep sums of values in 62 bits and what the Gini compares in 128.
const (
	// ValueMax is the most that one holder may declare in all, and the most that a unit may cost: about 4.4 million credits.
	ValueMax = 1 << 42
	// HoldersMax is how many owners may hold licences at a time.
	HoldersMax = 1 << 17
	// LicencesMax is how many licences one owner may hold.
	LicencesMax = 64
	// LicencesTotalMax is how many licences there may be. With HoldersMax it bounds what an epoch writes.
	LicencesTotalMax = 1 << 19
	// QuantityMax is how many units one licence may be for.
	QuantityMax = 1 << 20
	// CapacityMax is how many units of a resource there may be.
	CapacityMax = 1 << 40
	// SupplyMax is how many micro-credits there may be.
	SupplyMax = 1 << 60
	// OwnerBytesMax is how long an owner's name may be.
	OwnerBytesMax = 256
)

// ErrRules is returned for [Rules] out of range.
var ErrRules = errors.New("market: bad rules")

// Rules are what the federation document says of a region's market.
type Rules struct {
	// Supply is how many micro-credits there are, 0 to [SupplyMax].
	Supply int64
	// UnitPrice is what the market asks for a unit that nobody holds, in micro-credits by resource, 0 to [ValueMax].
	UnitPrice [ResourceCount]int64
	// Capacity is how many units there are, by resource, 0 to [CapacityMax].
	Capacity [ResourceCount]int64
}

// Check refuses rules out of range with [ErrRules].
func (r Rules) Check() error {
	if r.Supply < 0 || r.Supply > SupplyMax {
		return fmt.Errorf("%w: Supply is %d, want 0 to %d", ErrRules, r.Supply, int64(SupplyMax))
	}
	for i := range ResourceCount {
		if p := r.UnitPrice[i]; p < 0 || p > ValueMax {
			return fmt.Errorf("%w: UnitPrice of %v is %d, want 0 to %d", ErrRules, i, p, int64(ValueMax))
		}
		if c := r.Capacity[i]; c < 0 || c > CapacityMax {
			return fmt.Errorf("%w: Capacity of %v is %d, want 0 to %d", ErrRules, i, c, int64(CapacityMax))
		}
	}
	return nil
}
