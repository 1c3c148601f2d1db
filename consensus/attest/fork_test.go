package attest_test

import (
	"strconv"
	"strings"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

// fork makes another ledger of a region that has the first entries of its own one.
func (w *world) fork(z *zone, name string, at int64) {
	w.t.Helper()
	honest := z.serves(w, "")
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: z.name, Document: w.document})
	w.check(err)
	w.t.Cleanup(func() { _ = m.Close() })
	prefix := &ledgerSource{entries: honest.entries[:at]}
	for _, s := range honest.seals {
		if s.Size <= at {
			prefix.seals = append(prefix.seals, s)
		}
	}
	_, err = take(m, prefix, w.now+aheadMillis)
	w.check(err)
	f := &ledgerSource{m: m}
	z.forks[name] = f
	if n := len(prefix.seals); n > 0 {
		f.apply(w, w.fed.Certify(prefix.seals[n-1]))
	}
}

func (w *world) growFork(z *zone, name string, entries int) {
	w.t.Helper()
	z.forks[name].apply(w, z.proofs(w, entries))
}

func (f *ledgerSource) apply(w *world, data []byte) fsm.Result {
	w.t.Helper()
	f.index++
	res, err := f.m.Apply([]fsm.Command{{Index: f.index, Term: 1, Data: data}})
	w.check(err)
	return res[0]
}

// sealFork seals a fork, and frees the place that the seal takes.
func (w *world) sealFork(z *zone, name string) *fsm.Seal {
	w.t.Helper()
	f := z.forks[name]
	s := f.apply(w, fsm.EncodeSeal()).Seal
	if s == nil {
		w.t.Fatalf("fork %s of %s has nothing to seal", name, z.name)
	}
	f.apply(w, w.fed.Certify(s))
	return s
}

// root is the root of a ledger's first entries; zero where it has not so many.
func (f *ledgerSource) root(w *world, size int64) (root [32]byte) {
	w.t.Helper()
	if size > int64(len(f.entries)) {
		return root
	}
	if f.log == nil || f.logged < len(f.entries) {
		st := store.NewMemory()
		log, err := ledger.Open(st)
		w.check(err)
		txn := store.NewTxn(st)
		for _, e := range f.entries {
			_, err := log.Append(txn, ledger.Appended{Data: e})
			w.check(err)
		}
		w.check(st.Commit(txn.Writes()))
		f.log, f.logged = st, len(f.entries)
	}
	root, err := ledger.View{Reader: f.log}.Root(size)
	w.check(err)
	return root
}

// rewrite makes a fork whose entries a region could not have made, correctly hashed and sealed:
// change makes the lie in the last of so many.
func (w *world) rewrite(z *zone, name string, entries int64, change func(entry string) string) *fsm.Seal {
	w.t.Helper()
	honest := z.serves(w, "")
	st := store.NewMemory()
	log, err := ledger.Open(st)
	w.check(err)
	txn := store.NewTxn(st)
	f := &ledgerSource{}
	for _, s := range honest.seals {
		if s.Size < entries {
			f.seals = append(f.seals, s)
		}
	}
	for i := range entries {
		data := honest.entries[i]
		if i == entries-1 {
			was := string(data)
			if data = []byte(change(was)); string(data) == was {
				w.t.Fatalf("nothing was changed in %s", was)
			}
		}
		f.entries = append(f.entries, data)
		_, err := log.Append(txn, ledger.Appended{Data: data})
		w.check(err)
	}
	w.check(st.Commit(txn.Writes()))
	root, err := log.Root()
	w.check(err)
	s := *honest.seals[len(honest.seals)-1]
	s.Number, s.Size, s.Root, s.State = int64(len(f.seals)), entries, root, [32]byte{1, 2, 3}
	f.seals = append(f.seals, &s)
	z.forks[name] = f
	return &s
}

// lie publishes a checkpoint that the region's key signed, whoever has it.
func (w *world) lie(z *zone, c *checkpoint.Checkpoint) {
	w.t.Helper()
	note, err := checkpoint.Sign(c, w.fed.LogKeys[z.name])
	w.check(err)
	data := (&attest.Message{Kind: attest.KindCheckpoint, Document: w.fed.Document.Version, Payload: note}).Encode()
	w.say("%s: publish %s: %s", z.name, attest.TopicCheckpoints, w.describe(data))
	w.publish(z.name, attest.Topic{Name: attest.TopicCheckpoints}, data)
}

// forgedCode gives an entry another outcome.
func forgedCode(entry string) string {
	const good = `"code":0,`
	at := strings.LastIndex(entry, good)
	if at < 0 {
		return entry
	}
	return entry[:at] + `"code":7,` + entry[at+len(good):]
}

// forgedTime sets an entry's log time back by a minute.
func forgedTime(entry string) string {
	at := strings.LastIndex(entry, `"time":`) + len(`"time":`)
	end := at + strings.IndexByte(entry[at:], ',')
	millis, err := strconv.ParseInt(entry[at:end], 10, 64)
	if err != nil {
		return entry
	}
	return entry[:at] + strconv.FormatInt(millis-60_000, 10) + entry[end:]
}
