package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
)

// handler answers one request, or says in an error why not.
type handler func(r *http.Request) (*reply, error)

// wrap puts around a handler what all of them need: method, a request id, the time
// limit, recovery from panics, metrics and the access log.
func (s *Server) wrap(route, method string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, began := requestID(r), time.Now()
		w.Header().Set(client.HeaderRequestID, id)
		nothingToRead(w, r)
		defer busy(r)()
		s.metrics.inFlight.Inc()
		defer s.metrics.inFlight.Dec()
		rep, cause := s.answer(r, id, method, h)
		if rep.release != nil {
			defer rep.release()
		}
		rep.write(w, r.Method == http.MethodHead)
		s.record(r, id, route, rep.status, time.Since(began), cause)
	})
}

// wrapHTTP is wrap for a handler that writes its own answer.
func (s *Server) wrapHTTP(route, method string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, began := requestID(r), time.Now()
		w.Header().Set(client.HeaderRequestID, id)
		if f := checkMethod(r, method); f != nil {
			f.reply(id).write(w, r.Method == http.MethodHead)
			s.record(r, id, route, f.Status, time.Since(began), nil)
			return
		}
		nothingToRead(w, r)
		defer busy(r)()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(sw, r)
		s.record(r, id, route, sw.status, time.Since(began), nil)
	})
}

// nothingToRead takes the time limit for reading from a request that has come whole: else it would
// end what is being waited for.
func nothingToRead(w http.ResponseWriter, r *http.Request) {
	if r.Body == http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a writer without a connection has no such limit
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

// Unwrap lets a handler flush, and set time limits.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (s *Server) record(r *http.Request, id, route string, status int, took time.Duration, cause error) {
	s.metrics.answered(route, status, took)
	attrs := []slog.Attr{slog.String("id", id), slog.String("method", r.Method), slog.String("route", route),
		slog.Int("status", status), slog.Duration("took", took), slog.String("from", r.RemoteAddr)}
	level := slog.LevelDebug
	if cause != nil {
		attrs = append(attrs, slog.String("cause", cause.Error()))
		if status == http.StatusInternalServerError {
			level = slog.LevelError
		}
	}
	s.cfg.Log.LogAttrs(r.Context(), level, "http request", attrs...)
}

// answer runs the handler; whatever happens in it, there is a reply.
func (s *Server) answer(r *http.Request, id, method string, h handler) (rep *reply, cause error) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.metrics.panics.Inc()
			s.cfg.Log.Error("http request panicked", "id", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			f := internal(fmt.Errorf("panic: %v", p))
			rep, cause = f.reply(id), f.cause
		}
	}()
	var err error
	if f := checkMethod(r, method); f != nil {
		err = f
	} else {
		rep, err = h(r)
	}
	if err != nil {
		f := failed(err)
		return f.reply(id), f.cause
	}
	return rep, nil
}

func checkMethod(r *http.Request, method string) *failure {
	switch {
	case method == "" || r.Method == method:
		return nil
	case method == http.MethodGet && r.Method == http.MethodHead:
		return nil
	}
	f := failf(http.StatusMethodNotAllowed, "%s is not possible here; use %s.", clip(r.Method, 16), method)
	f.allow = method
	if method == http.MethodGet {
		f.allow = "GET, HEAD"
	}
	return f
}

// work does what needs the backend in one of the request slots and within the
// request's time limit.
func (s *Server) work(ctx context.Context, do func(ctx context.Context) (*reply, error)) (*reply, error) {
	select {
	case s.requests <- struct{}{}:
		defer func() { <-s.requests }()
	default:
		s.metrics.turned.WithLabelValues(turnedRequests).Inc()
		f := failf(http.StatusServiceUnavailable, "This node has %d requests under way, as many as it takes. Send the same request again after a pause, or to another node of the region.", s.cfg.RequestsMax)
		f.retryAfter = time.Second
		return nil, f
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	return do(ctx)
}

// requestID takes the client's own id if it is a plain word, else makes one.
func requestID(r *http.Request) string {
	id := r.Header.Get(client.HeaderRequestID)
	if id != "" && len(id) <= requestIDBytesMax && plainWord(id) {
		return id
	}
	return rand.Text()
}

// clip shows at most max bytes of what a stranger sent.
func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

func plainWord(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
