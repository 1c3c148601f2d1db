package fsm_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// everyRecord is a state with records of every kind that a machine keeps.
func everyRecord(tb testing.TB) (fed *testfed.Federation, records []store.Write) {
	tb.Helper()
	fed = testfed.New(4, 1, testfed.Market)
	st := store.NewMemory()
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		tb.Fatal(err)
	}
	index := uint64(0)
	apply := func(data []byte) fsm.Result {
		index++
		res, err := m.Apply([]fsm.Command{{Index: index, Term: 1, Data: data}})
		if err != nil {
			tb.Fatal(err)
		}
		return res[0]
	}
	submit := func(env *pci.Envelope) fsm.Receipt {
		return apply(fsm.EncodeProofs(env.TimestampMicros()/1000, [][]byte{env.Canonical()})).Receipts[0]
	}
	apply(fsm.EncodeGenesis(start, fed.Document.Canonical()))
	agent, operator := fed.Agent("x", start), fed.Operator("a", start)
	accept := func(env *pci.Envelope) fsm.Receipt {
		r := submit(env)
		if !r.Accepted() {
			tb.Fatalf("%s: %+v", env.Payload.Action, r)
		}
		return r
	}
	accept(operator.Register("a", agent))
	accept(operator.Sign("market.pay", map[string]any{"region": "a", "to": "owner-of-x", "amount_micro": 400_000_000}, ""))
	for _, resource := range []string{"cpu", "gpu"} {
		accept(agent.Sign("market.issue", map[string]any{"region": "a", "resource": resource, "quantity": 1, "price_micro": 5_000_000}, ""))
	}
	head := accept(agent.Sign("session.open", open("s"), "")).Head
	for _, state := range []string{"active", "computing"} {
		head = accept(agent.Sign("session.transition", to("s", state, "task", "plan"), head)).Head
	}
	accept(agent.Sign("session.branch", map[string]any{"session": "s", "name": "b"}, head))
	submit(agent.Sign("session.open", open("low"), "", func(d *pci.Draft) { d.IhsanScore = 0.5 }))
	seal := apply(fsm.EncodeSeal()).Seal
	sign := func(c checkpoint.Checkpoint, region string) []byte {
		c.Origin = checkpoint.Origin(fed.Document.Name, region)
		b, err := checkpoint.Sign(&c, fed.LogKeys[region])
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	attest := func(data []byte) {
		if a := apply(data).Attested; !a.Accepted() {
			tb.Fatalf("%+v", a)
		}
	}
	own, other := *seal.Checkpoint(), *seal.Checkpoint()
	other.Root[0]++
	attest(fsm.EncodeCertify(seal.Number, sign(own, "a")))
	attest(fsm.EncodeVote("b", 1, sign(own, "b"), nil))
	two, err := checkpoint.Contradiction(sign(own, "c"), sign(other, "c")).Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	attest(fsm.EncodeEvidence("c", two))
	agent.NowMillis += 2000
	accept(agent.Sign("session.open", open("later"), ""))
	it, err := st.Iter(nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		records = append(records, store.Write{Key: append([]byte(nil), it.Key()...), Value: append([]byte(nil), it.Value()...)})
	}
	if err := errors.Join(it.Err(), it.Close(), m.Close()); err != nil {
		tb.Fatal(err)
	}
	return fed, records
}

// later is when the machine goes on with a damaged store: two hours on.
const later = 7_200_000

// FuzzDamagedRecord puts anything in the place of any record of a store. Whatever it is, the machine that opens it, checks it,
// reads from it and goes on with it says what is wrong, or goes on; it does not panic.
func FuzzDamagedRecord(f *testing.F) {
	fed, records := everyRecord(f)
	kinds := map[byte]bool{}
	for i, r := range records {
		if !kinds[r.Key[0]] {
			f.Add(uint16(i), []byte{}, false)
			f.Add(uint16(i), r.Value[:len(r.Value)/2], false)
			f.Add(uint16(i), append([]byte{0xff}, r.Value...), false)
			f.Add(uint16(i), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, true)
		}
		kinds[r.Key[0]] = true
	}
	if len(kinds) < 10 {
		f.Fatalf("the store has records of %d kinds alone", len(kinds))
	}
	f.Fuzz(func(t *testing.T, which uint16, value []byte, gone bool) {
		damaged := append([]store.Write(nil), records...)
		damaged[int(which)%len(damaged)].Value, damaged[int(which)%len(damaged)].Delete = value, gone
		st := store.NewMemory()
		if err := st.Commit(damaged); err != nil {
			t.Fatal(err)
		}
		_ = fsm.Check(t.Context(), st, fsm.Config{Region: "a"}, quiet)
		m, err := fsm.Open(st, fsm.Config{Region: "a"})
		if err != nil {
			return
		}
		readAll(m)
		agent := fed.Agent("x", start+later) // so that nonces are forgotten, and the market's epoch ends
		_, _ = m.Apply([]fsm.Command{{Index: 1 << 20, Term: 1, Data: fsm.EncodeProofs(start+later, [][]byte{
			agent.Sign("session.transition", to("s", "active"), "").Canonical(), agent.Sign("session.open", open("after"), "").Canonical()})},
			{Index: 1<<20 + 1, Term: 1, Data: fsm.EncodeSeal()}})
		readAll(m)
		_ = m.Close()
	})
}

// readAll asks for everything that a node shows; errors are answers.
func readAll(m *fsm.Machine) {
	v, err := m.View()
	if err != nil {
		return
	}
	defer v.Close()
	_, _ = v.Document()
	_, _ = v.Sessions("", 10)
	_, _ = v.Agents("", 10)
	_, _ = v.Voters()
	_, _ = v.History("s", 0, 10)
	_, _ = v.SessionLayers("s")
	_, _ = v.Conduct("x")
	_, _ = v.Limited(10)
	_, _ = v.InEvidence()
	_, _ = v.Market()
	_, _ = v.Holder("owner-of-x")
	_, _ = v.Holders("", 10)
	_, _ = v.Licence(0)
	_, _ = v.Licences(0, 10)
	_, _ = v.Epochs(1<<40, 10)
	_, _ = v.CertificatesFrom(0, 10)
	_, _, _ = v.CertificateCovering(0)
	for _, origin := range []string{"b", "c"} {
		_, _ = v.Lock(origin)
		_, _ = v.Evidence(origin)
	}
	for i := range int64(10) {
		_, _ = v.SealAt(i)
		_, _ = v.SealFrom(i)
		if e, err := v.Entry(i); err == nil && e.Envelope != nil {
			_, _ = v.Receipt(e.Envelope.Digest())
		}
		_, _, _ = v.ReceiptAt(i)
	}
	_, _ = m.ProveState(fsm.SessionKey("s"))
	_, _ = m.ProveCertified(fsm.SessionKey("s"))
}

// TestDamagedIndexGivesNoReceipt: where the index by digest names another entry, of a proof or of none, nobody is given that
// entry's receipt for his own proof.
func TestDamagedIndexGivesNoReceipt(t *testing.T) {
	_, records := everyRecord(t)
	whole := store.NewMemory()
	if err := whole.Commit(records); err != nil {
		t.Fatal(err)
	}
	receipts := func(st store.Store) (list map[[32]byte]fsm.Receipt, failed int) {
		m, err := fsm.Open(st, fsm.Config{Region: "a"})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		v, err := m.View()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		list = map[[32]byte]fsm.Receipt{}
		for i := range m.Size() {
			e, err := v.Entry(i)
			if err != nil {
				t.Fatal(err)
			}
			if e.Envelope == nil {
				continue
			}
			digest := e.Envelope.Digest()
			r, err := v.Receipt(digest)
			if err != nil {
				failed++
				continue
			}
			list[digest] = r
		}
		return list, failed
	}
	want, failed := receipts(whole)
	if failed > 0 || len(want) < 8 {
		t.Fatalf("%d receipts, %d failed", len(want), failed)
	}
	tried := 0
	for i := range records {
		digest, found := [32]byte{}, len(records[i].Key) == 1+32
		if found {
			digest = [32]byte(records[i].Key[1:])
			_, found = want[digest]
		}
		if !found {
			continue
		}
		for n := range 4 {
			damaged := append([]store.Write(nil), records...)
			damaged[i].Value = binary.BigEndian.AppendUint64(nil, uint64(n)*5) // the genesis, and others
			st := store.NewMemory()
			if err := st.Commit(damaged); err != nil {
				t.Fatal(err)
			}
			got, failed := receipts(st)
			if r, ok := got[digest]; ok && r.Index != want[digest].Index || !ok && failed != 1 {
				t.Errorf("index %d: receipt of entry %d, was of %d; %d failed", 5*n, r.Index, want[digest].Index, failed)
			}
			tried++
		}
	}
	if tried < 32 {
		t.Errorf("%d tried: the test does not test", tried)
	}
}
