// Package pci has a file of its own for what is not deterministic.
package pci

//detlint:allow time misplaced, it does not stand above the package clause // want `this directive allows nothing`

import "time"

func stamp() time.Time { return time.Now() } // want `time: time.Now`
