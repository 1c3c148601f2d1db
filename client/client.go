package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bizra/bizra/pci"
)

// Config is how to reach a region.
type Config struct {
	// URLs are HTTP addresses of nodes of one region, such as http://127.0.0.1:8420,
	// in order of preference; at least one. While a node does not answer, the next is asked.
	URLs []string
	// HTTPClient carries the requests; nil: one of its own with time limits on
	// connecting. Redirects are never followed.
	HTTPClient *http.Client
	// RetriesMax is how often a request is sent again after its first attempt; 0: 8, negative: never.
	RetriesMax int
	// BackoffMin and BackoffMax bound the pause before a retry, which doubles each time
	// and is drawn at random from its upper half; 0: 100 ms and 5 s.
	BackoffMin, BackoffMax time.Duration
	// RetryAfterMax is the longest pause that a node may ask for with Retry-After and
	// get; one that asks for more is not asked again. 0: 15 s.
	RetryAfterMax time.Duration
	// AttemptTimeout bounds one attempt; 0: 30 s.
	AttemptTimeout time.Duration
	// Stale makes reads take what the asked node has applied, without asking its
	// leader: quicker, also without a leader, but possibly behind.
	Stale bool
	// UserAgent names the program; "": bizra-go.
	UserAgent string
}

func (c Config) withDefaults() Config {
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	or(&c.BackoffMin, 100*time.Millisecond)
	or(&c.BackoffMax, 5*time.Second)
	or(&c.RetryAfterMax, 15*time.Second)
	or(&c.AttemptTimeout, 30*time.Second)
	if c.RetriesMax == 0 {
		c.RetriesMax = 8
	}
	c.RetriesMax = max(c.RetriesMax, 0)
	if c.UserAgent == "" {
		c.UserAgent = "bizra-go"
	}
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       30 * time.Second, // below the node's, which would close under us
			ResponseHeaderTimeout: c.AttemptTimeout,
		}}
	}
	return c
}

func (c Config) validate() error {
	if len(c.URLs) == 0 {
		return errors.New("client: URLs is empty: name at least one node, such as http://127.0.0.1:8420")
	}
	for _, raw := range c.URLs {
		u, err := url.Parse(raw)
		if err != nil {
			return fmt.Errorf("client: URL %q: %w", raw, err)
		}
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return fmt.Errorf("client: URL %q: it must be like http://127.0.0.1:8420, without user, query or fragment", raw)
		}
	}
	if c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin || c.RetryAfterMax < 0 || c.AttemptTimeout < 0 {
		return fmt.Errorf("client: BackoffMin %v, BackoffMax %v, RetryAfterMax %v, AttemptTimeout %v: none may be negative, nor BackoffMax below BackoffMin",
			c.BackoffMin, c.BackoffMax, c.RetryAfterMax, c.AttemptTimeout)
	}
	return nil
}

// Client speaks to the nodes of one region. Any number of goroutines may use it.
type Client struct {
	cfg  Config
	http *http.Client
	urls []string
	at   atomic.Uint32 // which URL answered last
}

// New makes a client. It connects to nobody yet.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	hc := *cfg.HTTPClient
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{cfg: cfg, http: &hc}
	for _, u := range cfg.URLs {
		c.urls = append(c.urls, strings.TrimRight(u, "/"))
	}
	return c, nil
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one request that may be sent any number of times.
type request struct {
	method, path string
	query        url.Values
	contentType  string
	body         []byte
	token        string // of a reader; "": none
	bytesMax     int64  // of the answer; 0: responseBytesMax
}

// answer is what a node said, with its whole body.
type answer struct {
	status     int
	header     http.Header
	body       []byte
	retryAfter time.Duration // 0: not asked for
}

// do sends a request until it gets an answer that decides it. Every attempt that did
// not is followed by one at the next node, and after a round of all nodes by a pause.
func (c *Client) do(ctx context.Context, r request) (*answer, error) {
	var last error
	backoff := c.cfg.BackoffMin
	for attempt := 0; ; attempt++ {
		at := c.at.Load()
		ans, err := c.attempt(ctx, c.urls[int(at)%len(c.urls)], r)
		if err == nil {
			temporary := ans.problem()
			if temporary == nil || !temporary.Temporary() {
				return ans, nil
			}
			if ans.isReceipt() {
				return ans, nil // a gate's decision
			}
			err = temporary
		}
		last = err
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: gave up after %d attempts: %w (last answer: %w)", r.method, r.path, attempt+1, context.Cause(ctx), last)
		}
		c.at.CompareAndSwap(at, (at+1)%uint32(len(c.urls))) //nolint:gosec // nobody lists 2^32 nodes
		var asked time.Duration
		if ans != nil {
			asked = ans.retryAfter
		}
		if attempt >= c.cfg.RetriesMax || asked > c.cfg.RetryAfterMax {
			return nil, fmt.Errorf("%s %s at %s: no decision after %d attempts: %w", r.method, r.path, strings.Join(c.urls, ", "), attempt+1, last)
		}
		if (attempt+1)%len(c.urls) != 0 {
			continue
		}
		pause := max(asked, backoff/2+rand.N(backoff/2+1)) //nolint:gosec // jitter is no secret
		if err := wait(ctx, pause); err != nil {
			return nil, fmt.Errorf("%s %s: gave up after %d attempts: %w (last answer: %w)", r.method, r.path, attempt+1, err, last)
		}
		backoff = min(2*backoff, c.cfg.BackoffMax)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) attempt(ctx context.Context, base string, r request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.AttemptTimeout)
	defer cancel()
	target := base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = strings.NewReader(string(r.body))
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	limit := cmp.Or(r.bytesMax, responseBytesMax)
	text, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", base, err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("the answer of %s has more than %d bytes", base, limit)
	}
	return &answer{status: res.StatusCode, header: res.Header, body: text, retryAfter: retryAfter(res.Header, time.Now())}, nil
}

// retryAfter reads Retry-After in both of its forms, RFC 9110 §10.2.3.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

func (a *answer) media() string {
	m, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return m
}

// isReceipt reports whether a refusal is a gate's, with its receipt.
func (a *answer) isReceipt() bool {
	if a.media() != MediaJSON {
		return false
	}
	var o Outcome
	return o.UnmarshalJSON(a.body) == nil && o.Receipt != nil
}

// problem is nil for a success, else what the node says is wrong. An answer that is
// no problem document, as of a proxy in between, becomes one.
func (a *answer) problem() *Problem {
	if a.status >= 200 && a.status < 300 {
		return nil
	}
	if a.media() == MediaProblem {
		var p Problem
		if err := json.Unmarshal(a.body, &p); err == nil {
			p.Status = a.status
			return &p
		}
	}
	detail := strings.ToValidUTF8(strings.Join(strings.Fields(string(a.body[:min(len(a.body), problemTextMaxLen)])), " "), "\ufffd")
	if a.status >= 300 && a.status < 400 {
		detail = "the address answers with a redirect to " + a.header.Get("Location") + ": give the URL of the node itself"
	}
	return &Problem{Type: "about:blank", Title: http.StatusText(a.status), Status: a.status, Detail: detail}
}

func decode(a *answer, what string, into any) error {
	if p := a.problem(); p != nil {
		return fmt.Errorf("%s: %w", what, p)
	}
	if a.media() != MediaJSON {
		return fmt.Errorf("%s: the answer is %q, not %s: is this the address of a bizra node?", what, a.header.Get("Content-Type"), MediaJSON)
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%s: decode the answer: %w", what, err)
	}
	return nil
}

// escape makes a path segment of a text, also of one that a server would take for
// the directory itself or its parent.
func escape(segment string) string {
	if segment == "." || segment == ".." {
		return strings.ReplaceAll(segment, ".", "%2E")
	}
	return url.PathEscape(segment)
}

// Keys as the interface writes them: lower-case hexadecimal digits.
func hexKey(key *pci.PrivateKey) string { return fmt.Sprintf("%x", key.Public()) }
