package market

import (
	"fmt"

	"github.com/bizra/bizra/pci"
)

// Reason says why a step was refused. It is a token, not a sentence: other regions compute it again, and a better wording
// must not change a ledger.
type Reason string

// The reasons, by the code that they come with.
const (
	// REJECT_IHSAN_BELOW_MIN.
	ReasonIhsan Reason = "market-ihsan-below-min"

	// REJECT_ADL_GINI_EXCEEDED.
	ReasonGini Reason = "gini-exceeded"

	// REJECT_ADL_CONSERVATION.
	ReasonConservation Reason = "credits-not-conserved"

	// REJECT_ADL_NEGATIVE_HOLDING.
	ReasonBalance  Reason = "balance-too-small"
	ReasonTreasury Reason = "treasury-too-small"

	// REJECT_ADL_DUST_AMOUNT.
	ReasonPriceDust   Reason = "price-below-a-credit"
	ReasonPaymentDust Reason = "payment-below-a-credit"
	ReasonFloor       Reason = "below-a-quarter-of-the-mean"

	// REJECT_ADL_INVALID_TX.
	ReasonOwner            Reason = "owner-malformed"
	ReasonResource         Reason = "resource-unknown"
	ReasonQuantity         Reason = "quantity-out-of-range"
	ReasonPrice            Reason = "price-out-of-range"
	ReasonSoldOut          Reason = "units-sold-out"
	ReasonLicenceUnknown   Reason = "licence-unknown"
	ReasonNotHolder        Reason = "licence-of-another"
	ReasonOwnLicence       Reason = "licence-is-own"
	ReasonPriceRose        Reason = "price-above-limit"
	ReasonValueMax         Reason = "declared-too-much"
	ReasonLicencesMax      Reason = "too-many-licences"
	ReasonHoldersMax       Reason = "too-many-holders"
	ReasonLicencesTotalMax Reason = "too-many-licences-in-all"
	ReasonOwnAccount       Reason = "payment-to-oneself"
)

// Code is the reject code that the reason comes with; [pci.RejectInternalError] for what is no reason.
func (r Reason) Code() pci.Code {
	switch r {
	case ReasonIhsan:
		return pci.RejectIhsanBelowMin
	case ReasonGini:
		return pci.RejectADLGiniExceeded
	case ReasonConservation:
		return pci.RejectADLConservation
	case ReasonBalance, ReasonTreasury:
		return pci.RejectADLNegativeHolding
	case ReasonPriceDust, ReasonPaymentDust, ReasonFloor:
		return pci.RejectADLDustAmount
	case ReasonOwner, ReasonResource, ReasonQuantity, ReasonPrice, ReasonSoldOut, ReasonLicenceUnknown, ReasonNotHolder, ReasonOwnLicence,
		ReasonPriceRose, ReasonValueMax, ReasonLicencesMax, ReasonHoldersMax, ReasonLicencesTotalMax, ReasonOwnAccount:
		return pci.RejectADLInvalidTx
	default:
		return pci.RejectInternalError
	}
}

// Sentence tells a person what the reason means and what to do; "" for what is no reason.
func (r Reason) Sentence() string {
	switch r {
	case ReasonIhsan:
		return fmt.Sprintf("Who obtains or keeps a licence needs an ihsan_score of %v.", IhsanMin)
	case ReasonGini:
		return "The Gini coefficient of declared values would rise above its limit by a holder above the mean; declare less, or wait until others hold more."
	case ReasonConservation:
		return "Credits would be created or destroyed; this is a fault of the node, tell an operator."
	case ReasonBalance:
		return "The account does not hold enough, after the tax due; pay less or obtain credits first."
	case ReasonTreasury:
		return "The treasury does not hold that much; grant less."
	case ReasonPriceDust:
		return "A price is at least one credit (1000000 micro-credits)."
	case ReasonPaymentDust:
		return "A payment is at least one credit (1000000 micro-credits)."
	case ReasonFloor:
		return "Whoever declares a price ends at no less than a quarter of the mean declared value; declare more."
	case ReasonOwner:
		return fmt.Sprintf("An owner has a name of 1 to %d bytes.", OwnerBytesMax)
	case ReasonResource:
		return "There is no such resource; choose cpu, gpu, memory, storage, bandwidth, inference or consensus."
	case ReasonQuantity:
		return fmt.Sprintf("A licence is for 1 to %d units.", QuantityMax)
	case ReasonPrice:
		return fmt.Sprintf("A price is at most %d micro-credits.", int64(ValueMax))
	case ReasonSoldOut:
		return "The market has not so many units left; ask for fewer, or buy a licence from its holder."
	case ReasonLicenceUnknown:
		return "There is no such licence, or it has lapsed or been revoked by now."
	case ReasonNotHolder:
		return "Only the holder of a licence may do this."
	case ReasonOwnLicence:
		return "The licence is yours already; reassess it to change its price."
	case ReasonPriceRose:
		return "The holder declares a higher price than you are willing to pay; look again and raise the limit."
	case ReasonValueMax:
		return fmt.Sprintf("A holder's prices sum to at most %d micro-credits; declare less.", int64(ValueMax))
	case ReasonLicencesMax:
		return fmt.Sprintf("A holder has at most %d licences; release one, or obtain fewer and larger ones.", LicencesMax)
	case ReasonHoldersMax:
		return fmt.Sprintf("The market has %d holders, which is the most; wait until one leaves.", HoldersMax)
	case ReasonLicencesTotalMax:
		return fmt.Sprintf("The market has %d licences, which is the most; buy one from its holder.", LicencesTotalMax)
	case ReasonOwnAccount:
		return "Payer and payee are the same account."
	default:
		return ""
	}
}

// Refusal is the error of a step that the market does not allow. The step has changed nothing.
type Refusal struct{ Reason Reason }

func (r *Refusal) Error() string {
	return fmt.Sprintf("market: %v: %s", r.Reason.Code(), r.Reason)
}

func refuse(r Reason) error { return &Refusal{Reason: r} }
