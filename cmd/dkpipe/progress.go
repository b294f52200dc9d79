package main

import (
	"fmt"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress draws one bar a stage of work on a terminal, and nothing elsewhere.
type progress struct {
	bars *mpb.Progress // nil off a terminal
}

func (a *app) newProgress() *progress {
	if !a.tty || a.json {
		return &progress{}
	}
	return &progress{bars: mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(48))}
}

// drawn tells whether there are bars.
func (p *progress) drawn() bool { return p.bars != nil }

// bar is one stage's bar; its methods do nothing when there is none.
type bar struct {
	bar  *mpb.Bar
	note atomic.Value // string
}

// start adds a bar for a stage of total units; total 0 means that the end is not known.
func (p *progress) start(name string, total int64) *bar {
	b := &bar{}
	b.note.Store("")
	if p.bars == nil {
		return b
	}
	b.bar = p.bars.New(total, mpb.BarStyle().Lbound("").Filler("━").Tip("━").Padding("─").Rbound(""),
		mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-11s", name))),
		mpb.AppendDecorators(
			decor.OnComplete(decor.Percentage(decor.WCSyncSpace), "done"),
			decor.Name("  "),
			decor.Any(func(decor.Statistics) string { return b.note.Load().(string) }),
		))
	return b
}

// set moves the bar; total 0 leaves the end as it is.
func (b *bar) set(current, total int64, note string) {
	if b.bar == nil {
		return
	}
	b.note.Store(note)
	if total > 0 {
		b.bar.SetTotal(total, false)
	}
	b.bar.SetCurrent(current)
}

// done fills the bar, or leaves it where it stands when the stage failed.
func (b *bar) done(ok bool, note string) {
	if b.bar == nil {
		return
	}
	b.note.Store(note)
	if ok {
		b.bar.SetTotal(-1, true)
	} else {
		b.bar.Abort(false)
	}
}

func (p *progress) wait() {
	if p.bars != nil {
		p.bars.Wait()
	}
}
