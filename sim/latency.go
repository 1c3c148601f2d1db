package sim

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// Matrix is how long bytes take between places, one way.
type Matrix struct {
	Places []string // sorted
	oneWay map[[2]string]time.Duration
}

// ReadMatrix reads lines of place,place,round trip in milliseconds, one for each direction, under a
// header. One way is half of the mean of both directions.
func ReadMatrix(r io.Reader) (*Matrix, error) {
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("sim: read latencies: %w", err)
	}
	m := &Matrix{oneWay: map[[2]string]time.Duration{}}
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
	return m, nil
}

// OneWay is how long bytes take from a place to a place; inside of one, half of its own round trip.
func (m *Matrix) OneWay(from, to string) time.Duration { return m.oneWay[[2]string{from, to}] }
