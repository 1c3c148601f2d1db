package sim

// Fault is something that goes wrong in a world, for a while. Its methods are called on the
// world's goroutine.
type Fault interface {
	// Name says what goes wrong, and with what.
	Name() string
	// Begin makes it go wrong.
	Begin(w *World) error
	// End heals what it did. What crashed starts again; what lied does so no more.
	End(w *World) error
	// TookEffect says how often it really made a difference.
	TookEffect() int
}
