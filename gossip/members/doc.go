// Package members knows which nodes of a federation are there: by signed heartbeats
// inside a region, and by digests that leaders publish of their regions.
//
// A node says every ten seconds that it is alive, signed with its libp2p key, to its region's
// voters; in a region of more than 25 nodes as much less often as that is larger, so that what a
// region says together does not grow with it. Voters call it alive, then suspect after three
// beats missed, then left after twelve, or at once when it says that it leaves; ten minutes later
// they forget it. A leader tells the other regions' voters twice a minute how many of its nodes
// are in which state, and which (the first 256), and tells its own region's nodes the same,
// with how many there are in the other regions. So a node's table is as large as its own region, and
// what it hears of the world grows with the number of regions only, on voters alone.
//
// It is information for people, and nothing in consensus depends on it: a heartbeat that is lost makes
// nobody lose a vote. A beat is taken only from a node that package p2p knows to be of the
// region, with a sequence number above the last and within two minutes of this node's
// clock, so that old beats revive nobody. A digest or a roster is only as true as the voter who signed it.
package members
