package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/bizra/bizra/client"
)

// JudgeRequest is what a program is given that judges for another: compiling a constitution takes
// code and time that a decision by a node does without.
type JudgeRequest struct {
	Constitution json.RawMessage   `json:"constitution"` // canonical JSON
	Questions    []client.Question `json:"questions"`
}

// JudgeRequestBytesMax bounds one.
const JudgeRequestBytesMax = 16 << 20

// JudgeBy judges by running a program that reads a [JudgeRequest] and writes a [client.Judgement],
// as `bizra hook judge` does.
func JudgeBy(program string, args ...string) LocalJudge {
	return func(ctx context.Context, constitution []byte, questions []client.Question) (*client.Judgement, error) {
		in, err := json.Marshal(JudgeRequest{Constitution: constitution, Questions: questions})
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", program, err)
		}
		var out, errOut bytes.Buffer
		c := exec.CommandContext(ctx, program, args...) //nolint:gosec // the program that the hook was built with
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, &errOut
		if err := c.Run(); err != nil {
			return nil, fmt.Errorf("ask %s: %w: %s", program, err, clip(errOut.String(), 500))
		}
		var j client.Judgement
		if err := json.Unmarshal(out.Bytes(), &j); err != nil {
			return nil, fmt.Errorf("ask %s: its answer: %w", program, err)
		}
		return &j, nil
	}
}

// ServeJudge answers one [JudgeRequest] by a judge of this process.
func ServeJudge(ctx context.Context, in io.Reader, out io.Writer, judge LocalJudge) error {
	text, err := io.ReadAll(io.LimitReader(in, JudgeRequestBytesMax+1))
	if err != nil {
		return fmt.Errorf("read what is to be judged: %w", err)
	}
	if len(text) > JudgeRequestBytesMax {
		return fmt.Errorf("what is to be judged has more than %d bytes", JudgeRequestBytesMax)
	}
	var r JudgeRequest
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read what is to be judged: %w", err)
	}
	if len(r.Questions) == 0 {
		return errors.New("nothing is to be judged: give a constitution and questions")
	}
	j, err := judge(ctx, r.Constitution, r.Questions)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(j)
}
