package market

// gini is the coefficient with the accounts of the step as they are now.
func (s *step) gini() (Gini, error) {
	if err := s.index(); err != nil {
		return Gini{}, err
	}
	return s.m.values.gini(), nil
}

// admit judges what the gainer of a step has declared, given the coefficient from before the step proper, and whether
// its seller has nothing left.
//
// The coefficient counts an emptied seller as a holder of nothing: else buying somebody out would look like equality.
// The mean does not: a newcomer that takes the place of the last holder could not enter at any price.
func (s *step) admit(gainer *account, before Gini, emptied bool) error {
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
	switch {
	case after.holders > HoldersMax:
		return refuse(ReasonHoldersMax)
	case after.belowFloor(value):
		return refuse(ReasonFloor)
	case counted.Compare(before) > 0 && counted.Exceeds(GiniLimitPercent) && after.aboveMean(value):
		return refuse(ReasonGini)
	}
	return nil
}
