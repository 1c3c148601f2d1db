// Package hook puts an agent CLI under governance. It speaks the hook protocol of such CLIs: an
// event as JSON on standard input, a decision as JSON on standard output, exit code 2 for
// "blocked". Before a tool is used it asks for the verdict of the constitution in force and
// denies what that denies; what was done and what was denied becomes signed proofs in a region's
// ledger.
//
// A [Home] is a folder that holds the configuration, the agent's key and what is still to be
// submitted. [Run] handles one event, [Home.Flush] submits what waits, [Install] writes the
// settings of the CLI.
//
// What it promises:
//   - Fail closed. A call that could not be judged, or whose judging could not be written down,
//     is denied, unless the configuration says "local": then the constitution that was in force
//     when a node was heard last decides, on this machine.
//   - Nothing that was denied or done is lost or reordered: it is on the disk, behind what came
//     before it, when the process that saw it ends, and leaves the disk only with a receipt. An
//     envelope is on the disk before it is sent, and the same one is sent again until it is
//     decided. Any number of hook processes may run at once, and may be killed at any point.
//   - By default the region sees salted digests of inputs and results, never their text. The
//     salts stay in the home, so that the owner, and nobody else, can show what was digested.
//
// What it does not do: it judges what a tool call says, not what the tool then does; it cannot
// deny what the CLI does not ask about, nor act where the CLI does not run it; a CLI that goes
// on when its hook takes too long or is missing goes on without it. docs/hooks.md says what a
// project does against that.
package hook
