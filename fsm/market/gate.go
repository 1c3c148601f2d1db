package market

// gini is the coefficient with the accounts of the step as they are now.
func (s *step) gini() (Gini, error) {
	if err := s.index(); err != nil {
		return Gini{}, err
	}
	return s.m.values.gini(), nil
}

// origin is what a step is judged against: how things were when its accounts were settled, before it did anything.
type origin struct {
	gini     Gini
	newcomer bool // the gainer held no licence
}

func (s *step) origin(gainer *account) (origin, error) {
	g, err := s.gini()
	return origin{gini: g, newcomer: len(gainer.licences) == 0}, err
}

// admit judges what the gainer of a step has declared, and whether the seller has nothing left.
//
// An emptied seller counts as a holder of nothing: else buying others out would look like equality. Only for the mean
// that a newcomer is held against it does not: it takes the seller's place, and where there was one holder it could not
// enter at any price.
func (s *step) admit(gainer *account, before origin, emptied bool) error {
	value := gainer.holder.Value
	switch {
	case value > ValueMax:
		return refuse(ReasonValueMax)
	case len(gainer.licences) > LicencesMax:
		return refuse(ReasonLicencesMax)
	}
	after, err := s.gini()
	if err != nil {
		return err
	}
	counted := after
	if emptied {
		counted = after.withNobody()
	}
	mean := counted
	if before.newcomer {
		mean = after
	}
	switch {
	case after.holders > HoldersMax:
		return refuse(ReasonHoldersMax)
	case after.belowFloor(value):
		return refuse(ReasonFloor)
	case counted.Compare(before.gini) > 0 && counted.Exceeds(GiniLimitPercent) && mean.aboveMean(value):
		return refuse(ReasonGini)
	}
	return nil
}
