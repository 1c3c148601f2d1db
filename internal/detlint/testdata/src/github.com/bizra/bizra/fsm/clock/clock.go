package clock

import (
	"context"
	"time"
	. "time"
	clock "time"
)

func forbidden(ctx context.Context, t time.Time) {
	_ = time.Now()  // want `time: time.Now: take the time from the log entry`
	_ = clock.Now() // want `time: time.Now`
	_ = Now()       // want `time: time.Now`
	now := time.Now // want `time: time.Now`
	_ = now
	_ = time.Since(t)               // want `time: time.Since`
	_ = time.Until(t)               // want `time: time.Until`
	time.Sleep(time.Second)         // want `time: time.Sleep`
	_ = time.After(time.Second)     // want `time: time.After`
	_ = time.AfterFunc(0, nil)      // want `time: time.AfterFunc`
	_ = time.Tick(time.Second)      // want `time: time.Tick`
	_ = time.NewTimer(time.Second)  // want `time: time.NewTimer`
	_ = time.NewTicker(time.Second) // want `time: time.NewTicker`
	_ = t.Local()                   // want `time: time.Time.Local: the time zone is the machine's`
	_ = t.In(time.Local)            // want `time: time.Local`
	_, _ = time.LoadLocation("X")   // want `time: time.LoadLocation`
	_ = time.Unix(1, 0)             // want `time: time.Unix: the result is in the machine's time zone`
	_ = time.UnixMilli(1).String()  // want `time: time.UnixMilli`
	f := time.UnixMicro             // want `time: time.UnixMicro`
	_ = f
	_, _ = context.WithTimeout(ctx, 1)  // want `time: context.WithTimeout`
	_, _ = context.WithDeadline(ctx, t) // want `time: context.WithDeadline`
}

type ticker struct{}

func (ticker) Now() time.Time { return time.Time{} }

func allowed(ctx context.Context, t time.Time) {
	_ = ticker{}.Now()
	_ = time.UnixMilli(1).UTC()
	_ = Unix(1, 0).UTC().Format(time.RFC3339)
	_ = t.Add(time.Second).In(time.UTC)
	_ = t.Unix() + t.UnixMilli()
	_, _ = time.Parse(time.RFC3339Nano, "")
	_ = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, cancel := context.WithCancel(ctx)
	cancel()
}
