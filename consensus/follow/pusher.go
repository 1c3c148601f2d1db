package follow

import (
	"errors"
	"fmt"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/internal/rounds"
)

// pusher sends a stream what there is and then what comes, by rounds: most streams wait most of the
// time, and each has a goroutine already, which waits for the follower to leave.
type pusher struct {
	srv    *Server
	stream Stream
	src    Source
	once   bool // the stream ends when there is no more
	rounds rounds.Rounds

	// What rounds own.
	pos  position
	beat time.Time // when a heartbeat is due: the first at once, so that the follower knows where it stands

	ended chan struct{} // closed by the last round, after
	err   error         // why it was the last; nil where everything was sent that was asked for
}

func (srv *Server) newPusher(s Stream, src Source, want *requestBody) *pusher {
	p := &pusher{srv: srv, stream: s, src: src, once: want.EntriesMax > 0, ended: make(chan struct{}), beat: time.Now(),
		pos: position{next: want.From, seal: want.FromSeal, left: ledger.SizeMax, sealsFrom: want.SealsFrom, holds: want.Holds}}
	if p.once {
		p.pos.left = want.EntriesMax
	}
	return p
}

// round sends all that there is, and says when a heartbeat is due.
func (p *pusher) round() time.Duration {
	for {
		f, err := frameOf(&p.src, &p.pos)
		if err != nil {
			return p.end(p.srv.refuse(p.stream, f, err))
		}
		idle := f.Kind == frameHeartbeat
		if !idle || !time.Now().Before(p.beat) {
			if err := p.srv.write(p.stream, f); err != nil {
				return p.end(err)
			}
			p.beat = time.Now().Add(p.srv.cfg.HeartbeatEvery)
		}
		if !idle {
			continue
		}
		if p.once {
			return p.end(nil)
		}
		return max(0, time.Until(p.beat))
	}
}

// end says why this round is the last, and wakes whoever waits for the follower to leave.
func (p *pusher) end(err error) time.Duration {
	p.err = err
	close(p.ended)
	_ = p.stream.CloseRead()
	return rounds.End
}

// frameOf opens a view for one frame only: a slow follower must not hold on to old state.
func frameOf(src *Source, pos *position) (f *frame, err error) {
	var no error // a refusal goes to the follower, and is no fault of the view
	err = src.Lend(func(v *fsm.View) error {
		f, no = nextFrame(v, src.Age(), pos)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("serve entries: %w", errors.Join(no, err))
	}
	return f, no
}
