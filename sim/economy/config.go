package economy

import (
	"fmt"
	"time"
)

// Attack is what somebody tries in a run.
type Attack string

// The attacks.
const (
	Calm    Attack = "none"
	Hoard   Attack = "hoard"   // one owner buys whatever it can and declares as much as it may
	Split   Attack = "split"   // one owner under many names holds least licences for the sake of the payout
	Time    Attack = "time"    // three in five holders raise their prices just before each epoch and lower them after it
	Dodge   Attack = "dodge"   // a holder declares little, and more in the moment in which it sees a buyer coming
	Collude Attack = "collude" // a ring shares a hoarder's purse, so that none of it is above the mean
)

// Attacks are all of them, the calm run first.
func Attacks() []Attack { return []Attack{Calm, Hoard, Split, Time, Dodge, Collude} }

// About says in a line what somebody does.
func (a Attack) About() string {
	switch a {
	case Calm:
		return "nobody attacks"
	case Hoard:
		return "one owner buys whatever it can and declares as much as it may"
	case Split:
		return "one owner under many names holds least licences for the sake of the payout"
	case Time:
		return "three in five holders raise prices before each epoch and lower them after it"
	case Dodge:
		return "holders declare little, and more in the moment in which they see a buyer coming"
	case Collude:
		return "a ring shares a hoarder's purse, so that none of it stands out"
	default:
		return ""
	}
}

// Limits of a run.
const (
	OwnersMax = 100_000
	HoursMax  = 24 * 365
	PurseMax  = 100
)

// Config is one run.
type Config struct {
	Seed   uint64
	Owners int           // honest ones, 2 to [OwnersMax]; 0: 1,000
	For    time.Duration // of log time, whole hours; 0: three days
	Attack Attack        // "": [Calm]
	// Purse is what an attacker brings, in shares of what all honest owners were given: 0.1 is a tenth. 0: 0.25.
	Purse float64
	// Names are how many an attacker that splits itself or a ring has, in shares of the honest owners. 0: 0.2.
	Names float64
	// Scarcity is the mean demand in shares of what there is; above 1 not everybody can have what it wants. 0: 1.25.
	Scarcity float64
	// Surge is by how much demand is multiplied for the six hours in the middle of the run. 0: 3.
	Surge float64
	// KeepLots has honest owners keep licences that are far larger than what they want, instead of giving them back and
	// obtaining a part anew.
	KeepLots bool
}

func (c Config) withDefaults() Config {
	if c.Owners == 0 {
		c.Owners = 1000
	}
	if c.For == 0 {
		c.For = 72 * time.Hour
	}
	if c.Attack == "" {
		c.Attack = Calm
	}
	for into, otherwise := range map[*float64]float64{&c.Purse: 0.25, &c.Names: 0.2, &c.Scarcity: 1.25, &c.Surge: 3} {
		if *into == 0 {
			*into = otherwise
		}
	}
	return c
}

// Check refuses what no run can be made of.
func (c Config) Check() error {
	c = c.withDefaults()
	return c.validate()
}

func (c *Config) validate() error {
	switch {
	case c.Owners < 2 || c.Owners > OwnersMax:
		return fmt.Errorf("economy: Owners is %d, want 2 to %d", c.Owners, OwnersMax)
	case c.For < time.Hour || c.For > HoursMax*time.Hour || c.For%time.Hour != 0:
		return fmt.Errorf("economy: For is %v, want whole hours, 1 to %d", c.For, HoursMax)
	case c.Attack.About() == "":
		return fmt.Errorf("economy: Attack is %q, want one of %v", c.Attack, Attacks())
	case !(c.Purse >= 0 && c.Purse <= PurseMax):
		return fmt.Errorf("economy: Purse is %v, want 0 to %d", c.Purse, PurseMax)
	case !(c.Names >= 0 && c.Names <= 1):
		return fmt.Errorf("economy: Names is %v, want 0 to 1", c.Names)
	case !(c.Scarcity > 0 && c.Scarcity <= 100):
		return fmt.Errorf("economy: Scarcity is %v, want above 0, at most 100", c.Scarcity)
	case !(c.Surge >= 1 && c.Surge <= 100):
		return fmt.Errorf("economy: Surge is %v, want 1 to 100", c.Surge)
	}
	return nil
}

func (c *Config) hours() int { return int(c.For / time.Hour) }
