package client

import (
	"context"
	"net/url"
	"strconv"
)

// The region's compute market. Amounts are in micro-credits, of which a credit has a million; Gini coefficients in
// millionths (ppm); times are log time, RFC 3339.

// Market is how a region's market stands.
type Market struct {
	Region    string           `json:"region"`
	Supply    int64            `json:"supply_micro"`
	Treasury  int64            `json:"treasury_micro"` // not granted, or paid for licences that nobody held
	Pot       int64            `json:"pot_micro"`      // tax to be paid out at the next epoch
	Holders   int64            `json:"holders"`        // owners with a licence
	Declared  int64            `json:"declared_micro"` // sum of the prices of all licences
	Gini      int64            `json:"gini_ppm"`       // of declared value per holder
	GiniLimit int64            `json:"gini_limit_ppm"`
	GiniAlert int64            `json:"gini_alert_ppm"`
	Epoch     int64            `json:"epoch"`      // settled so far
	NextEpoch string           `json:"next_epoch"` // due with the first proof from then on
	Newcomer  NewcomerMay      `json:"newcomer"`
	Resources []MarketResource `json:"resources"`
	LogTime   string           `json:"log_time"` // as of which all this is
}

// NewcomerMay is what an owner without licences may declare in all so that it is let in whatever the Gini. More may
// be let in too.
type NewcomerMay struct {
	Least int64 `json:"least_micro"`
	Sure  int64 `json:"sure_micro"`
}

// MarketResource is what there is of a resource, and what the market asks for a unit that nobody holds.
type MarketResource struct {
	Resource string `json:"resource"`
	Capacity int64  `json:"capacity"` // units
	Issued   int64  `json:"issued"`   // units under licence
	Price    int64  `json:"price_micro"`
}

// Holder is what an owner has in the market, as of its last step: tax that has come due since is not taken off.
type Holder struct {
	Owner    string  `json:"owner"`
	Balance  int64   `json:"balance_micro"`
	Declared int64   `json:"declared_micro"` // sum of the prices of its licences
	Taxed    string  `json:"taxed"`          // until when its tax is paid
	Licences []int64 `json:"licences"`       // their numbers, ascending
}

// Holders is one page of those who have something in the market, sorted by owner.
type Holders struct {
	Holders []Holder `json:"holders"`
	Next    string   `json:"next,omitempty"` // the `after` of the next page; "" on the last
}

// Licence is the right to some units of a resource. Whoever pays its price may buy it.
type Licence struct {
	Number   int64  `json:"licence"`
	Owner    string `json:"owner"`
	Resource string `json:"resource"`
	Quantity int64  `json:"quantity"`    // units
	Price    int64  `json:"price_micro"` // that the owner declares
	Issued   string `json:"issued"`
	Declared string `json:"declared"` // when the price was declared
	Lapses   string `json:"lapses"`   // unless it is declared again before
}

// Licences is one page of licences, in the order in which they were issued.
type Licences struct {
	Licences []Licence `json:"licences"`
	Next     *int64    `json:"next,omitempty"` // the `from` of the next page; nil on the last
}

// Epoch is one settlement of a market: of an hour, or of several that had passed.
type Epoch struct {
	Number     int64  `json:"number"`      // epochs settled since the market was founded
	Epochs     int64  `json:"epochs"`      // of them, by this one
	Tax        int64  `json:"tax_micro"`   // collected by it
	PaidOut    int64  `json:"paid_micro"`  // to the holders in all
	Each       int64  `json:"each_micro"`  // to each
	Lapsed     int64  `json:"lapsed"`      // licences that were not reassessed in time, or no longer fit
	Revoked    int64  `json:"revoked"`     // licences whose tax could not be paid
	Floor      int64  `json:"floor_micro"` // declared value that holders below it were lifted to
	Lifted     int64  `json:"lifted"`      // holders
	Cap        int64  `json:"cap_micro"`   // declared value that holders above it were lowered to; 0: the Gini kept its limit
	Lowered    int64  `json:"lowered"`     // holders
	GiniBefore int64  `json:"gini_before_ppm"`
	GiniAfter  int64  `json:"gini_after_ppm"`
	Holders    int64  `json:"holders"`
	Declared   int64  `json:"declared_micro"`
	Treasury   int64  `json:"treasury_micro"`
	Pot        int64  `json:"pot_micro"`
	Index      int64  `json:"index"` // of the entry
	Time       string `json:"time"`
}

// Epochs is one page of settlements, newest first.
type Epochs struct {
	Epochs []Epoch `json:"epochs"`
	Next   *int64  `json:"next,omitempty"` // the `before` of the next page; nil on the last
}

// Trade is what a step did in the market, in its receipt.
type Trade struct {
	Licence *int64  `json:"licence"`           // issued, reassessed, bought or released; nil of a payment
	Paid    int64   `json:"paid_micro"`        // that changed hands, the tax apart
	Tax     int64   `json:"tax_micro"`         // collected from whom the step touched
	Lapsed  []int64 `json:"lapsed,omitempty"`  // licences of theirs that had lapsed
	Revoked []int64 `json:"revoked,omitempty"` // licences of theirs whose tax could not be paid
}

// Unlicensed is what a step asked for and its owner has no licence to.
type Unlicensed struct {
	Owner    string `json:"owner"`
	Resource string `json:"resource"`
	Asked    int64  `json:"asked"` // units
	Held     int64  `json:"held"`  // units
}

// Market tells how the region's market stands; the error matches [ErrNotFound] where it has none.
func (c *Client) Market(ctx context.Context) (*Market, error) {
	var m Market
	return &m, c.get(ctx, "read the market", "/v1/market", nil, &m)
}

// Holder tells what an owner has in the market; the error matches [ErrNotFound] for one that has nothing.
func (c *Client) Holder(ctx context.Context, owner string) (*Holder, error) {
	var h Holder
	return &h, c.get(ctx, "read holder "+owner, "/v1/market/holders/"+escape(owner), nil, &h)
}

// Holders lists who has something in the market, owners after the one given.
func (c *Client) Holders(ctx context.Context, after string, limit int) (*Holders, error) {
	var h Holders
	return &h, c.get(ctx, "list the holders", "/v1/market/holders", page("after", after, limit), &h)
}

// Licence finds a licence by its number; the error matches [ErrNotFound] for one that there is not.
func (c *Client) Licence(ctx context.Context, number int64) (*Licence, error) {
	var l Licence
	text := strconv.FormatInt(number, 10)
	return &l, c.get(ctx, "read licence "+text, "/v1/market/licences/"+text, nil, &l)
}

// Licences lists licences from a number on.
func (c *Client) Licences(ctx context.Context, from int64, limit int) (*Licences, error) {
	var l Licences
	return &l, c.get(ctx, "list the licences", "/v1/market/licences", numbered("from", from, limit), &l)
}

// Epochs lists settlements before the one given (0: from the newest), newest first.
func (c *Client) Epochs(ctx context.Context, before int64, limit int) (*Epochs, error) {
	var e Epochs
	return &e, c.get(ctx, "list the epochs", "/v1/market/epochs", numbered("before", before, limit), &e)
}

// numbered is the query of one page of a list that goes by numbers.
func numbered(name string, value int64, limit int) url.Values {
	q := page("", "", limit)
	if value != 0 {
		q.Set(name, strconv.FormatInt(value, 10))
	}
	return q
}
