package market

// Actor is who asks for a step.
type Actor struct {
	// Owner is the owner named when the acting agent was registered; "" for an operator, who acts for the treasury.
	Owner string
	// Ihsan is the score of the act, 0 to 1.
	Ihsan float64
}

// Action is one of [Issue], [Reassess], [Buy], [Release], [Pay] and [Grant].
type Action interface {
	apply(s *step, by Actor) error
}

// Issue obtains a licence that nobody holds, at the market's price. The price that is declared for it is another thing.
type Issue struct {
	Resource Resource
	Quantity int64 // units, 1 to [QuantityMax]
	Price    int64 // declared, micro-credits, [Credit] to [ValueMax]
}

// Reassess declares a new price for a licence, or the same again, which keeps it for another [LapseMillis].
type Reassess struct {
	Licence int64
	Price   int64 // declared, micro-credits
}

// Buy obtains a licence from its holder, who cannot refuse, at the price that the holder declares.
type Buy struct {
	Licence int64
	Limit   int64 // the most to pay, micro-credits
	Price   int64 // declared by the buyer, micro-credits
}

// Release gives a licence back to the market. Nothing is paid for it.
type Release struct{ Licence int64 }

// Pay moves credits from the actor's account to another owner's.
type Pay struct {
	To     string
	Amount int64 // micro-credits, at least [Credit]
}

// Grant moves credits from the treasury to an owner's account. That only an operator may do so is the caller's to see to.
type Grant struct {
	To     string
	Amount int64 // micro-credits, at least [Credit]
}

// Outcome is what a step did.
type Outcome struct {
	Licence int64   // that was issued, reassessed, bought or released; 0 for [Pay] and [Grant]
	Paid    int64   // micro-credits that changed hands, the tax apart
	Tax     int64   // micro-credits of tax that were collected from whom the step touched
	Lapsed  []int64 // licences of theirs that had lapsed
	Revoked []int64 // licences of theirs whose tax they could not pay
}

// Apply takes one step at a log time. If the market does not allow it the error is a [*Refusal], and nothing has
// changed. Other errors are [ErrTime], [ErrEpoch] if an epoch is due first, [ErrRecords] and the store's.
func (m *Market) Apply(nowMillis int64, by Actor, action Action) (Outcome, error) {
	s, err := m.begin(nowMillis)
	if err != nil {
		return Outcome{}, err
	}
	if m.Due(nowMillis) {
		return Outcome{}, ErrEpoch
	}
	err = action.apply(s, by)
	if err == nil && !s.conserves() {
		err = refuse(ReasonConservation)
	}
	if err == nil {
		err = s.index()
	}
	if err != nil {
		if undo := s.forget(); undo != nil {
			return Outcome{}, undo
		}
		return Outcome{}, err
	}
	return s.outcome, s.commit()
}

func priced(by Actor, price int64) error {
	switch {
	case !(by.Ihsan >= IhsanMin): // not a number is no score
		return refuse(ReasonIhsan)
	case price < Credit:
		return refuse(ReasonPriceDust)
	case price > ValueMax:
		return refuse(ReasonPrice)
	}
	return nil
}

func named(owner string) bool { return len(owner) > 0 && len(owner) <= OwnerBytesMax }

// settled takes an account into the step and brings it up to now.
func (s *step) settled(owner string) (*account, error) {
	if !named(owner) {
		return nil, refuse(ReasonOwner)
	}
	a, err := s.load(owner)
	if err != nil {
		return nil, err
	}
	s.settle(a)
	return a, nil
}

func (i Issue) apply(s *step, by Actor) error {
	if i.Resource >= ResourceCount {
		return refuse(ReasonResource)
	}
	if i.Quantity < 1 || i.Quantity > QuantityMax {
		return refuse(ReasonQuantity)
	}
	if err := priced(by, i.Price); err != nil {
		return err
	}
	a, err := s.settled(by.Owner)
	if err != nil {
		return err
	}
	before, err := s.origin(a)
	if err != nil {
		return err
	}
	if s.head.Issued[i.Resource]+i.Quantity > s.m.rules.Capacity[i.Resource] {
		return refuse(ReasonSoldOut)
	}
	if s.head.Licences >= LicencesTotalMax {
		return refuse(ReasonLicencesTotalMax)
	}
	cost := s.m.rules.UnitPrice[i.Resource] * i.Quantity
	if cost > a.holder.Balance {
		return refuse(ReasonBalance)
	}
	a.holder.Balance -= cost
	s.head.Treasury += cost
	s.head.Issued[i.Resource] += i.Quantity
	s.outcome.Paid, s.outcome.Licence = cost, s.head.Next
	s.give(a, Licence{Number: s.head.Next, Resource: i.Resource, Quantity: i.Quantity, Price: i.Price, IssuedMillis: s.now, DeclaredMillis: s.now})
	s.head.Next++
	s.head.Licences++
	return s.admit(a, before, false)
}

func (r Reassess) apply(s *step, by Actor) error {
	if err := priced(by, r.Price); err != nil {
		return err
	}
	a, at, err := s.own(by, r.Licence)
	if err != nil {
		return err
	}
	before, err := s.origin(a)
	if err != nil {
		return err
	}
	l := a.licences[at]
	l.Price, l.DeclaredMillis = r.Price, s.now
	s.give(a, l)
	s.outcome.Licence = r.Licence
	return s.admit(a, before, false)
}

// own is the actor's account, and where in it the licence is.
func (s *step) own(by Actor, number int64) (*account, int, error) {
	a, err := s.settled(by.Owner)
	if err != nil {
		return nil, 0, err
	}
	if at := a.find(number); at >= 0 {
		return a, at, nil
	}
	l, found, err := s.m.Licence(number)
	switch {
	case err != nil:
		return nil, 0, err
	case !found || l.Owner == by.Owner: // one of its own is gone by now
		return nil, 0, refuse(ReasonLicenceUnknown)
	default:
		return nil, 0, refuse(ReasonNotHolder)
	}
}

func (b Buy) apply(s *step, by Actor) error {
	if err := priced(by, b.Price); err != nil {
		return err
	}
	buyer, err := s.settled(by.Owner)
	if err != nil {
		return err
	}
	l, found, err := s.m.Licence(b.Licence)
	switch {
	case err != nil:
		return err
	case !found:
		return refuse(ReasonLicenceUnknown)
	case l.Owner == by.Owner:
		return refuse(ReasonOwnLicence)
	}
	seller, err := s.settled(l.Owner)
	if err != nil {
		return err
	}
	before, err := s.origin(buyer)
	if err != nil {
		return err
	}
	at := seller.find(b.Licence)
	switch {
	case at < 0:
		return refuse(ReasonLicenceUnknown)
	case l.Price > b.Limit:
		return refuse(ReasonPriceRose)
	case l.Price > buyer.holder.Balance:
		return refuse(ReasonBalance)
	}
	buyer.holder.Balance -= l.Price
	seller.holder.Balance += l.Price
	s.outcome.Paid, s.outcome.Licence = l.Price, b.Licence
	seller.licences = append(seller.licences[:at], seller.licences[at+1:]...)
	seller.count()
	l.Price, l.DeclaredMillis = b.Price, s.now
	s.give(buyer, l)
	return s.admit(buyer, before, len(seller.licences) == 0)
}

func (r Release) apply(s *step, by Actor) error {
	a, at, err := s.own(by, r.Licence)
	if err != nil {
		return err
	}
	s.drop(&a.licences[at])
	a.licences = append(a.licences[:at], a.licences[at+1:]...)
	a.count()
	s.outcome.Licence = r.Licence
	return nil
}

func (p Pay) apply(s *step, by Actor) error {
	payer, err := s.settled(by.Owner)
	if err != nil {
		return err
	}
	if p.To == by.Owner {
		return refuse(ReasonOwnAccount)
	}
	if p.Amount > payer.holder.Balance {
		return refuse(ReasonBalance)
	}
	if err := s.credit(p.To, p.Amount); err != nil {
		return err
	}
	payer.holder.Balance -= p.Amount
	return nil
}

func (g Grant) apply(s *step, _ Actor) error {
	if g.Amount > s.head.Treasury {
		return refuse(ReasonTreasury)
	}
	if err := s.credit(g.To, g.Amount); err != nil {
		return err
	}
	s.head.Treasury -= g.Amount
	return nil
}

// credit adds to an account. The payee is not settled first: what comes in may pay the tax that is due.
func (s *step) credit(to string, amount int64) error {
	if amount < Credit {
		return refuse(ReasonPaymentDust)
	}
	if !named(to) {
		return refuse(ReasonOwner)
	}
	payee, err := s.load(to)
	if err != nil {
		return err
	}
	payee.holder.Balance += amount
	s.outcome.Paid = amount
	return nil
}
