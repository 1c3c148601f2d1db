package market

import "slices"

// Head is the part of the market that every step moves.
type Head struct {
	_           struct{} `cbor:",toarray"`
	Supply      int64    // micro-credits that there are, wherever they are
	Treasury    int64    // micro-credits not granted, or paid for licences that nobody held
	Pot         int64    // tax received and not yet paid out, micro-credits
	StartMillis int64    // log time from which epochs are counted
	TimeMillis  int64    // log time of the last step
	Epoch       int64    // epochs settled since the start
	Next        int64    // number of the next licence
	Licences    int64    // that there are
	Issued      []int64  // units held, by resource
}

// Holder is what an owner has: credits, licences or both.
type Holder struct {
	_           struct{} `cbor:",toarray"`
	Owner       string
	Balance     int64   // micro-credits
	Value       int64   // sum of the prices of the licences, micro-credits
	TaxedMillis int64   // log time up to which the tax is paid
	Licences    []int64 // their numbers, ascending
}

// Licence is the right to some units of a resource.
type Licence struct {
	_              struct{} `cbor:",toarray"`
	Number         int64    // in the order of issue, from 0
	Owner          string
	Resource       Resource
	Quantity       int64 // units
	Price          int64 // declared, micro-credits
	IssuedMillis   int64 // log time at which the market issued it
	DeclaredMillis int64 // log time of the last declaration by a holder; it lapses LapseMillis later
}

// sound reports whether a step may count with the record; what is out of range comes of damage, and sums over it would overflow.
func (l *Licence) sound() bool {
	return l.Resource < ResourceCount && l.Quantity >= 1 && l.Quantity <= QuantityMax && l.Price >= Credit && l.Price <= ValueMax &&
		l.DeclaredMillis >= 0 && l.DeclaredMillis <= timeMillisMax
}

// LapsesMillis is the log time at which the licence lapses unless it is reassessed before.
func (l *Licence) LapsesMillis() int64 { return l.DeclaredMillis + LapseMillis }

// Store keeps the records of one market. A Market changes what it was given or read only through it. Records that it
// hands out and takes are the caller's to keep: neither side changes a slice after it has passed it on.
type Store interface {
	// Head returns the head, and false if the market has not been founded.
	Head() (Head, bool, error)
	PutHead(Head) error
	// Holder returns the record of an owner, and false if there is none.
	Holder(owner string) (Holder, bool, error)
	PutHolder(Holder) error
	DeleteHolder(owner string) error
	// Holders visits all records in ascending order of the owners' bytes, and ends with the first error of visit.
	Holders(visit func(Holder) error) error
	// Licence returns a licence by its number, and false if there is none.
	Licence(number int64) (Licence, bool, error)
	// Licences visits all licences in ascending order of their numbers, and ends with the first error of visit.
	Licences(visit func(Licence) error) error
	PutLicence(Licence) error
	DeleteLicence(number int64) error
}

func (h Head) clone() Head {
	h.Issued = slices.Clone(h.Issued)
	return h
}
