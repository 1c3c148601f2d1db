package testfed

import (
	"fmt"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

// Fork is a ledger of so many entries, of which those from one on differ from those of forks with other labels.
func Fork(size, from int64, label string) ledger.View {
	st := store.NewMemory()
	log, err := ledger.Open(st)
	must(err)
	txn := store.NewTxn(st)
	for i := range size {
		data := fmt.Appendf(nil, "entry %d", i)
		if i >= from {
			data = append(data, label...)
		}
		_, err := log.Append(txn, ledger.Appended{Data: data})
		must(err)
	}
	must(st.Commit(txn.Writes()))
	return ledger.View{Reader: st}
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("testfed: %v", err))
	}
}
