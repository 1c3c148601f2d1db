package report

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// land is the outline of the continents, a polygon a line of longitude,latitude pairs: Natural
// Earth's 1:110m land (public domain), thinned out to half a degree.
//
//go:embed land.txt
var land string

// where is a place on the globe, in degrees.
type where struct{ longitude, latitude float64 }

// places says where cloud regions are, about: the cities that their operator names them by.
func places() map[string]where {
	return map[string]where{
		"af-south-1":     {18.4, -33.9},  // Cape Town
		"ap-east-1":      {114.2, 22.3},  // Hong Kong
		"ap-east-2":      {121.5, 25.0},  // Taipei
		"ap-northeast-1": {139.7, 35.7},  // Tokyo
		"ap-northeast-2": {127.0, 37.6},  // Seoul
		"ap-northeast-3": {135.5, 34.7},  // Osaka
		"ap-south-1":     {72.9, 19.1},   // Mumbai
		"ap-south-2":     {78.5, 17.4},   // Hyderabad
		"ap-southeast-1": {103.8, 1.4},   // Singapore
		"ap-southeast-2": {151.2, -33.9}, // Sydney
		"ap-southeast-3": {106.8, -6.2},  // Jakarta
		"ap-southeast-4": {145.0, -37.8}, // Melbourne
		"ap-southeast-5": {101.7, 3.1},   // Kuala Lumpur
		"ap-southeast-7": {100.5, 13.8},  // Bangkok
		"ca-central-1":   {-73.6, 45.5},  // Montreal
		"ca-west-1":      {-114.1, 51.0}, // Calgary
		"eu-central-1":   {8.7, 50.1},    // Frankfurt
		"eu-central-2":   {8.5, 47.4},    // Zurich
		"eu-north-1":     {18.1, 59.3},   // Stockholm
		"eu-south-1":     {9.2, 45.5},    // Milan
		"eu-south-2":     {-0.9, 41.6},   // Zaragoza
		"eu-west-1":      {-6.3, 53.3},   // Dublin
		"eu-west-2":      {-0.1, 51.5},   // London
		"eu-west-3":      {2.4, 48.9},    // Paris
		"il-central-1":   {34.8, 32.1},   // Tel Aviv
		"me-central-1":   {55.3, 25.2},   // Dubai
		"me-south-1":     {50.6, 26.2},   // Manama
		"mx-central-1":   {-100.4, 20.6}, // Querétaro
		"sa-east-1":      {-46.6, -23.6}, // São Paulo
		"us-east-1":      {-77.5, 39.0},  // Ashburn
		"us-east-2":      {-83.0, 40.0},  // Columbus
		"us-west-1":      {-122.0, 37.4}, // San Jose
		"us-west-2":      {-119.7, 45.8}, // Boardman
	}
}

// continents reads the outlines.
func continents() (polygons [][]where, err error) {
	for n, line := range strings.Split(strings.TrimSpace(land), "\n") {
		var p []where
		for _, pair := range strings.Fields(line) {
			x, y, _ := strings.Cut(pair, ",")
			longitude, err1 := strconv.ParseFloat(x, 64)
			latitude, err2 := strconv.ParseFloat(y, 64)
			if err1 != nil || err2 != nil {
				return nil, fmt.Errorf("report: outlines of land, line %d: %q is no longitude,latitude", n+1, pair)
			}
			p = append(p, where{longitude, latitude})
		}
		polygons = append(polygons, p)
	}
	return polygons, nil
}
