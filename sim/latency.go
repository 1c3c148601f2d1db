package sim

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/bizra/bizra/internal/testfed"
)

// Matrix is how long bytes take between places, one way.
type Matrix struct {
	Places []string // sorted
	oneWay map[[2]string]time.Duration
	// shortest is oneWay by way of whatever places are quickest: no protocol can do better.
	shortest map[[2]string]time.Duration
}

//go:embed testdata/aws-rtt.csv
var measured []byte

// Measured is the matrix of the 33 cloud regions in which [NewPlacement] puts regions: medians of round trips.
func Measured() (*Matrix, error) { return ReadMatrix(bytes.NewReader(measured)) }

// ReadMatrix reads lines of place,place,round trip in milliseconds, one for each direction, under a
// header. One way is half of the mean of both directions.
func ReadMatrix(r io.Reader) (*Matrix, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("sim: read latencies: %w", err)
	}
	m := &Matrix{oneWay: map[[2]string]time.Duration{}, shortest: map[[2]string]time.Duration{}}
	for i, row := range rows {
		if i == 0 {
			continue
		}
		if len(row) != 3 {
			return nil, fmt.Errorf("sim: read latencies: line %d has %d fields, want 3", i+1, len(row))
		}
		millis, err := strconv.ParseFloat(row[2], 64)
		if err != nil || millis < 0 {
			return nil, fmt.Errorf("sim: read latencies: line %d: %q is no round trip in milliseconds", i+1, row[2])
		}
		quarter := time.Duration(millis * float64(time.Millisecond) / 4)
		m.oneWay[[2]string{row[0], row[1]}] += quarter
		m.oneWay[[2]string{row[1], row[0]}] += quarter
		if !slices.Contains(m.Places, row[0]) {
			m.Places = append(m.Places, row[0])
		}
	}
	slices.Sort(m.Places)
	for _, a := range m.Places {
		for _, b := range m.Places {
			if m.oneWay[[2]string{a, b}] == 0 {
				return nil, fmt.Errorf("sim: read latencies: none from %s to %s", a, b)
			}
		}
	}
	m.shorten()
	return m, nil
}

// shorten finds the shortest paths, by Floyd and Warshall.
func (m *Matrix) shorten() {
	for _, a := range m.Places {
		for _, b := range m.Places {
			m.shortest[[2]string{a, b}] = m.oneWay[[2]string{a, b}]
		}
	}
	for _, by := range m.Places {
		for _, a := range m.Places {
			for _, b := range m.Places {
				way := [2]string{a, b}
				m.shortest[way] = min(m.shortest[way], m.shortest[[2]string{a, by}]+m.shortest[[2]string{by, b}])
			}
		}
	}
}

// OneWay is how long bytes take from a place to a place; inside of one, half of its own round trip.
func (m *Matrix) OneWay(from, to string) time.Duration { return m.oneWay[[2]string{from, to}] }

// Shortest is how long they take at least, by way of other places where that is quicker.
func (m *Matrix) Shortest(from, to string) time.Duration { return m.shortest[[2]string{from, to}] }

// Placement puts the regions of a federation into the places of a matrix.
type Placement struct {
	matrix *Matrix
	places map[string]string // by region
}

// NewPlacement puts so many regions, called as [World] calls them, into the measured cloud regions: as many
// in one as in another, but for one. The seed says which in which.
func NewPlacement(regions int, seed uint64) (*Placement, error) {
	m, err := Measured()
	if err != nil {
		return nil, err
	}
	order := rand.New(rand.NewPCG(seed, uint64(regions))).Perm(len(m.Places)) //nolint:gosec // draws a topology, guards no secret
	p := &Placement{matrix: m, places: map[string]string{}}
	for i, name := range testfed.RegionNames(regions) {
		p.places[name] = m.Places[order[i%len(order)]]
	}
	return p, nil
}

// Place is the cloud region that a region is in.
func (p *Placement) Place(region string) string { return p.places[region] }

// OneWay is how long bytes take one way from a region to a region, or between two nodes of one: for
// [Config.Latency].
func (p *Placement) OneWay(from, to string) time.Duration {
	if from == to {
		return near
	}
	return p.matrix.OneWay(p.places[from], p.places[to])
}

// Limit is the shortest that anything can take from a node of a region to a node of another, or to
// another node of the same: by the shortest path through the matrix.
func (p *Placement) Limit(from, to string) time.Duration {
	if from == to {
		return near
	}
	return p.matrix.Shortest(p.places[from], p.places[to])
}
