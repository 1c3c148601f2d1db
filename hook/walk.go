package hook

// standardSteps are the steps of a session, docs/protocol.md has the table.
func standardSteps(state string) []string {
	switch state {
	case stateInit:
		return []string{stateActive, stateTerminated}
	case stateActive:
		return []string{stateComputing, stateSuspended, stateFailed, stateTerminated}
	case stateComputing:
		return []string{stateFailed, stateValidated} // what was begun and has no result counts as failed
	case stateValidated:
		return []string{stateCommitted, stateFailed}
	case stateCommitted:
		return []string{stateActive, stateTerminated}
	case stateSuspended:
		return []string{stateResumed, stateTerminated}
	case stateResumed:
		return []string{stateActive}
	case stateFailed:
		return []string{stateRecovered, stateTerminated}
	case stateRecovered:
		return []string{stateActive}
	}
	return nil
}

// toward gives the first step of the shortest way to a state, at least one step long; "" where
// nothing leads there.
func toward(from, to string) string {
	first := map[string]string{}
	queue := []string{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, next := range standardSteps(at) {
			if _, seen := first[next]; seen {
				continue
			}
			first[next] = first[at]
			if at == from {
				first[next] = next
			}
			if next == to {
				return first[next]
			}
			queue = append(queue, next)
		}
	}
	return ""
}
