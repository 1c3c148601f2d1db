// Command detlint reports what could make two replicas of the state machine differ. Run it as
//
//	go run ./internal/detlint/cmd/detlint ./fsm/... ./pci/...
//
// It exits with status 3 if it found something, 1 if it could not look. Package detlint has the rules and how a line is exempted.
package main

import (
	"golang.org/x/tools/go/analysis/singlechecker"

	"github.com/bizra/bizra/internal/detlint"
)

func main() { singlechecker.Main(detlint.New(detlint.Config{})) }
