package follow

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/internal/tally"
)

// Prefixes of the metrics' names.
const (
	serverPrefix   = "bizra_entries_server"
	followerPrefix = "bizra_follow"
	copyPrefix     = "bizra_copy"
)

// of labels what is counted of one region's ledger.
func of(region string) prometheus.Labels { return prometheus.Labels{"region": region} }

type serverMetrics struct {
	*tally.Figures
	open  tally.Gauge
	count tally.Counter
	bytes tally.Counter
	seals tally.Counter
	ended tally.Counters // by reason, of a closed set
}

func newServerMetrics(region string) *serverMetrics {
	m := &serverMetrics{}
	m.Figures = tally.New(serverPrefix, of(region), func(s *tally.Sheet) {
		s.Gauge("streams", "Followers being served now.", m.open.Value)
		s.Counter("entries_total", "Entries sent to followers.", &m.count)
		s.Counter("bytes_total", "Bytes of entries sent to followers.", &m.bytes)
		s.Counter("seals_total", "Seals sent to followers.", &m.seals)
		s.Counters("ended_total", "Streams that ended, by reason.", &m.ended, "reason")
	})
	return m
}

func (m *serverMetrics) sent(f *frame) {
	m.count.Add(float64(len(f.Entries)))
	m.bytes.Add(float64(entryBytes(f.Entries)))
	if f.Seal != nil {
		m.seals.Inc()
	}
}

type followerMetrics struct {
	*tally.Figures
	count tally.Counter
	bytes tally.Counter
	seals tally.Counter
	left  tally.Counters // by reason, of a closed set

	early   tally.Counter
	refused tally.Counters // by code, of a closed set
}

func newFollowerMetrics(region string, status func() Status) *followerMetrics {
	m := &followerMetrics{}
	m.Figures = tally.New(followerPrefix, of(region), func(s *tally.Sheet) {
		gauge := func(name, help string, value func(Status) float64) {
			s.Gauge(name, help, func() float64 { return value(status()) })
		}
		s.Counter("entries_total", "Entries taken from peers and re-executed.", &m.count)
		s.Counter("bytes_total", "Bytes of entries taken from peers.", &m.bytes)
		s.Counter("seals_total", "Seals taken from peers and found equal.", &m.seals)
		s.Counters("peers_left_total", "Times that a peer was left, by reason.", &m.left, "reason")
		s.Counter("early_total", "Times that an entry of another region was waited for, since its log time was more than 10 s ahead of this clock.", &m.early)
		s.Counters("refused_total", "Entries and seals of another region that re-execution refused, by code.", &m.refused, "code")
		gauge("size_entries", "Entries of the replica.", func(s Status) float64 { return float64(s.Size) })
		gauge("lag_entries", "Entries that the followed peer had more when it was last heard.", func(s Status) float64 { return float64(s.LagEntries) })
		gauge("lag_seconds", "Log time by which the followed peer was ahead when it was last heard.", func(s Status) float64 { return float64(s.LagMillis) / 1000 })
		gauge("age_seconds", "How long ago, at most, the replica held all that the region had committed.", func(s Status) float64 { return s.Age.Seconds() })
		gauge("diverged", "1 if the replica diverged and the follower stopped.", func(s Status) float64 { return truth(s.Diverged != "") })
	})
	return m
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func entryBytes(entries [][]byte) int {
	n := 0
	for _, e := range entries {
		n += len(e)
	}
	return n
}

// errNotIdle is returned by a second Run.
var errNotIdle = errors.New("follow: Run was called before; a follower runs once")
