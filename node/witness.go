package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

const (
	// WitnessesMax is how many outside witnesses a node may ask.
	WitnessesMax       = 16
	witnessEvery       = time.Second
	witnessPauseMax    = time.Minute // after failures
	witnessTimeout     = 10 * time.Second
	witnessAnswerBytes = 4 << 10
)

// Witness is an outside witness (c2sp.org/tlog-witness): somebody who is no region and
// cosigns what it sees, without executing anything.
type Witness struct {
	Key string // verifier key of c2sp.org/signed-note, signature type 0x04
	URL string // /add-checkpoint is appended
}

// witnesses asks outside witnesses to cosign each newest certificate, and keeps their
// lines. Each has a goroutine, which owns its known size; lines are under mu.
type witnesses struct {
	all  []*witness
	view func() (*fsm.View, error)
	http *http.Client
	log  *slog.Logger

	mu sync.Mutex
}

type witness struct {
	verifier *torchwood.CosignatureVerifier
	url      string
	known    int64  // entries of the checkpoint that it cosigned last, as far as we know
	body     string // under mu: what line cosigns
	line     []byte // under mu
}

func newWitnesses(list []Witness, view func() (*fsm.View, error), log *slog.Logger) (*witnesses, error) {
	if len(list) > WitnessesMax {
		return nil, fmt.Errorf("%d witnesses: at most %d", len(list), WitnessesMax)
	}
	w := &witnesses{view: view, log: log, http: &http.Client{Timeout: witnessTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for _, x := range list {
		v, err := torchwood.NewCosignatureVerifier(x.Key)
		if err != nil {
			return nil, fmt.Errorf("witness %.100q: %w: its key must look like witness.example/w+0123abcd+BASE64, of type 0x04", x.Key, err)
		}
		u, err := url.Parse(x.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("witness %s: URL %.200q must be like https://witness.example/prefix", v.Name(), x.URL)
		}
		w.all = append(w.all, &witness{verifier: v, url: strings.TrimRight(x.URL, "/") + "/add-checkpoint"})
	}
	return w, nil
}

// lines are the witnesses' signatures of a body, in the order of the configuration.
func (w *witnesses) lines(body []byte) (lines [][]byte) {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if x.body == string(body) {
			lines = append(lines, x.line)
		}
	}
	return lines
}

// run asks one witness until the context ends.
func (w *witnesses) run(ctx context.Context, x *witness) {
	pause, last := witnessEvery, ""
	for {
		err := w.ask(ctx, x)
		if ctx.Err() != nil {
			return
		}
		pause = min(2*pause, witnessPauseMax)
		if err == nil {
			pause, last = witnessEvery, ""
		} else if err.Error() != last {
			last = err.Error()
			w.log.Warn("an outside witness does not cosign", "witness", x.verifier.Name(), "cause", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// newest is the newest certificate and what it takes to show it to a witness.
type newest struct {
	doc   *federation.Document
	cert  []byte
	c     *checkpoint.Checkpoint
	note  []byte         // with the origin's signature alone
	proof tlog.TreeProof // from the size that the witness knows
}

// ask shows a witness the newest certified checkpoint, unless it has cosigned that.
func (w *witnesses) ask(ctx context.Context, x *witness) error {
	// The size that we know of is out of date at most once, unless others show it checkpoints too.
	for range 2 {
		n, err := w.newest(x)
		if err != nil || n == nil {
			return err
		}
		again, err := w.show(ctx, x, n)
		if err != nil || !again {
			return err
		}
	}
	return nil
}

// newest reads what a witness is to be shown, nil if nothing: the view must not stay
// open while a witness takes its time.
func (w *witnesses) newest(x *witness) (n *newest, err error) {
	v, err := w.view()
	if errors.Is(err, errNoState) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	certified, err := v.Certified()
	if err != nil || certified == 0 {
		return nil, err
	}
	seal, err1 := v.SealAt(certified - 1)
	cert, err2 := v.Certificate(certified - 1)
	doc, err3 := v.Document()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	n = &newest{doc: doc, cert: cert, c: seal.Checkpoint()}
	w.mu.Lock()
	done := x.body == string(n.c.Body())
	w.mu.Unlock()
	region, listed := doc.Region(n.c.Region())
	if done || !listed || x.known > n.c.Size { // another node of the region has shown it a later one
		return nil, nil
	}
	if n.proof, err = v.Ledger().ConsistencyProof(x.known, n.c.Size); err != nil {
		return nil, err
	}
	if err := n.sign(region); err != nil {
		return nil, err
	}
	return n, nil
}

// sign makes the note with the origin's signature alone: a witness needs no more, and
// takes no long requests.
func (n *newest) sign(region *federation.Region) error {
	log, err := checkpoint.Verifier(n.c.Origin, region.LogKey)
	if err != nil {
		return err
	}
	opened, err := note.Open(n.cert, note.VerifierList(log))
	if err != nil {
		return fmt.Errorf("open the newest certificate: %w", err)
	}
	opened.UnverifiedSigs = nil
	n.note, err = note.Sign(opened)
	return err
}

// show posts the checkpoint with a proof from the size that the witness knows. It says
// whether another try makes sense, since the witness told another size.
func (w *witnesses) show(ctx context.Context, x *witness, n *newest) (again bool, err error) {
	status, answer, err := w.post(ctx, x, n)
	if err != nil {
		return false, err
	}
	switch status {
	case http.StatusOK:
		line, _, _ := bytes.Cut(answer, []byte("\n"))
		line = append(line, '\n')
		if err := certificate.CheckWitness(n.cert, line, x.verifier, n.doc); err != nil {
			return false, err
		}
		w.mu.Lock()
		x.body, x.line = string(n.c.Body()), line
		w.mu.Unlock()
		x.known = n.c.Size
		return false, nil
	case http.StatusConflict:
		size, err := strconv.ParseInt(strings.TrimSpace(string(answer)), 10, 64)
		if err != nil || size < 0 {
			return false, fmt.Errorf("it answers 409 without its size: %.80q", answer)
		}
		x.known = size
		return true, nil
	case http.StatusNotFound:
		return false, fmt.Errorf("it does not know the log %s: ask whoever runs it to add it with its key (404)", n.c.Origin)
	case http.StatusForbidden:
		return false, fmt.Errorf("it does not accept the log key of %s (403)", n.c.Origin)
	case http.StatusUnprocessableEntity:
		return false, fmt.Errorf("it says that %d entries do not extend the %d that it cosigned before (422)", n.c.Size, x.known)
	}
	return false, fmt.Errorf("it answers %d: %.80q", status, answer)
}

func (w *witnesses) post(ctx context.Context, x *witness, n *newest) (status int, answer []byte, err error) {
	body := fmt.Appendf(nil, "old %d\n", x.known)
	for _, h := range n.proof {
		body = append(base64.StdEncoding.AppendEncode(body, h[:]), '\n')
	}
	body = append(append(body, '\n'), n.note...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := w.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, witnessAnswerBytes))
	return res.StatusCode, answer, err
}
