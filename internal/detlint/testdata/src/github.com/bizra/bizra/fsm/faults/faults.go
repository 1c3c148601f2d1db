package faults

import "time"

// now is told the time by the machine, all of it.
//
//detlint:allow time only the signer calls it
func now() (time.Time, time.Duration) {
	t := time.Now()
	return t, time.Since(t)
}

func lines() {
	_ = time.Now() //detlint:allow time this line only
	_ = time.Now() // want `time: time.Now`
	//detlint:allow time the line below
	_ = time.Now()
	//detlint:allow time two directives
	//detlint:allow go above one line
	go func() { _ = time.Now() }()
	//detlint:allow time another rule's name // want `this directive allows nothing: there is no time finding in its reach`
	go lines() // want `go: goroutines`
	//detlint:allow time too far above // want `this directive allows nothing`

	_ = time.Now()                                        // want `time: time.Now`
	_ = time.Now()                                        /* want `time: time.Now` `directive without a reason` */ //detlint:allow time
	_ = time.Now()                                        /* want `time: time.Now` `directive without a reason` */ //detlint:allow time
	_ = time.Now()                                        //detlint:allow clock it is fine // want `time: time.Now` `directive for an unknown rule "clock"`
	_ = time.Now()                                        /* want `time: time.Now` `directive for an unknown rule ""` */ //detlint:allow
	_ = time.Now()                                        //detlint:ignore it is fine // want `time: time.Now` `unknown directive //detlint:ignore`
	_ = time.Now()                                        // detlint:allow time with a space it is prose // want `time: time.Now`
	_ = 1                                                 //detlint:ordered nothing here // want `this directive allows nothing: there is no maprange finding`
	for range 1 /* want `directive without a reason` */ { //detlint:ordered
	}
}

// idle has a directive for nothing.
//
//detlint:allow rand nothing is drawn here // want `this directive allows nothing: there is no rand finding`
func idle() {}
