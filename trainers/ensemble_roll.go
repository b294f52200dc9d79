package trainers

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dkpipe/ps"
)

// roll makes one run of what the members of an ensemble tell, for one observer.
type roll struct {
	to    Observer // may be nil
	begun time.Time

	mu       sync.Mutex // held while to is called: it hears one call at a time
	members  []memberBooks
	told     int          // epochs that to was told of
	measured map[int]bool // epochs whose validation to was told of
}

// memberBooks is what one member told.
type memberBooks struct {
	last   Progress
	epochs []Epoch // complete ones: number i+1 at i
	over   bool
}

func newRoll(to Observer, members int) *roll {
	return &roll{to: to, begun: time.Now(), members: make([]memberBooks, members), measured: map[int]bool{}}
}

// memberObserver passes on what one member's run tells.
type memberObserver struct {
	roll   *roll
	member int
}

var (
	_ Observer  = (*memberObserver)(nil)
	_ Validated = (*memberObserver)(nil)
)

func (o *memberObserver) Progress(p Progress) { o.roll.progress(o.member, p) }

func (o *memberObserver) EpochDone(e Epoch, _ []float32) { o.roll.epoch(o.member, e) }

func (o *memberObserver) Validated(e Epoch) { o.roll.validated(o.member, e) }

func (o *memberObserver) Paced(epoch int, rate float64, text string) {
	o.roll.mu.Lock()
	defer o.roll.mu.Unlock()
	if to, ok := o.roll.to.(Paced); ok {
		to.Paced(epoch, rate, fmt.Sprintf("member %d: %s", o.member, text))
	}
}

func (o *memberObserver) WorkerLost(_ ps.Worker, err error) {
	o.roll.mu.Lock()
	defer o.roll.mu.Unlock()
	if o.roll.to != nil {
		o.roll.to.WorkerLost(ps.Worker(o.member), err)
	}
}

// progress adds up the members. One that has not begun is taken to be as large as the others are on average.
func (r *roll) progress(member int, p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Worker, p.Done.ID = ps.Worker(member), ps.Worker(member)
	r.members[member].last = p
	if r.to == nil {
		return
	}
	var known int64
	p.Commits, p.Samples, p.Of, p.Steps = 0, 0, 0, 0
	for _, m := range r.members {
		if m.last.Of > 0 {
			known++
		}
		p.Commits, p.Samples, p.Of, p.Steps = p.Commits+m.last.Commits, p.Samples+m.last.Samples, p.Of+m.last.Of, p.Steps+m.last.Steps
	}
	p.Of = p.Of * int64(len(r.members)) / max(1, known)
	p.Seconds = time.Since(r.begun).Seconds()
	r.to.Progress(p)
}

func (r *roll) epoch(member int, e Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[member].epochs = append(r.members[member].epochs, e)
	r.tell()
}

func (r *roll) validated(member int, e Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.members[member]
	if e.Epoch < 1 || e.Epoch > len(b.epochs) {
		return
	}
	b.epochs[e.Epoch-1] = e
	r.tellMeasured(e.Epoch)
}

// ended notes that nothing more comes of a member.
func (r *roll) ended(member int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[member].over = true
	r.tell()
	for e := 1; e <= r.told; e++ {
		r.tellMeasured(e)
	}
}

// tell tells of the epochs that everybody has done who still could.
func (r *roll) tell() {
	for {
		e, ok := r.merged(r.told + 1)
		if !ok {
			return
		}
		r.told++
		if r.to != nil {
			e.Validation = nil
			r.to.EpochDone(e, nil)
		}
		r.tellMeasured(r.told)
	}
}

// tellMeasured tells of the validation of an epoch once all members that did the epoch are measured.
func (r *roll) tellMeasured(epoch int) {
	to, ok := r.to.(Validated)
	if !ok || epoch > r.told || r.measured[epoch] {
		return
	}
	for _, m := range r.members {
		if len(m.epochs) >= epoch && m.epochs[epoch-1].Validation == nil {
			return
		}
	}
	if e, ok := r.merged(epoch); ok && e.Validation != nil {
		r.measured[epoch] = true
		to.Validated(e)
	}
}

// merged gives an epoch of the members that did it; false while there are some that may still do it.
func (r *roll) merged(epoch int) (Epoch, bool) {
	parts := map[int]Epoch{}
	for m, b := range r.members {
		switch {
		case len(b.epochs) >= epoch:
			parts[m] = b.epochs[epoch-1]
		case !b.over:
			return Epoch{}, false
		}
	}
	return mergeEpochs(parts, len(r.members)), len(parts) > 0
}

// mergeEpochs makes one line of history of those of several members: their sums, and the means of losses, by samples, and
// of what validation measured. The members are its workers.
func mergeEpochs(parts map[int]Epoch, members int) Epoch {
	var all Epoch
	var loss, stale float64
	var validations []Metrics
	for m := range members {
		e, ok := parts[m]
		if !ok {
			continue
		}
		all.Epoch = e.Epoch
		all.Samples, all.Commits, all.Steps = all.Samples+e.Samples, all.Commits+e.Commits, all.Steps+e.Steps
		if e.Samples > 0 { // or it has no loss
			loss += float64(e.Loss) * float64(e.Samples)
		}
		stale += e.StalenessMean * float64(e.Commits)
		all.Seconds = max(all.Seconds, e.Seconds)
		all.ExchangedMiB += e.ExchangedMiB
		all.Partial = all.Partial || e.Partial
		all.LearningRate += e.LearningRate / float64(len(parts)) // the mean, too
		all.Staleness.Merge(e.Staleness)
		for _, w := range e.Workers {
			w.ID = ps.Worker(m)
			all.Workers = append(all.Workers, w)
		}
		if e.Validation != nil {
			validations = append(validations, e.Validation)
		}
	}
	all.Loss = Number(loss / float64(all.Samples))
	if all.Commits > 0 {
		all.StalenessMean = stale / float64(all.Commits)
	}
	if all.Seconds > 0 {
		all.CommitsPerS = float64(all.Commits) / all.Seconds
	}
	all.Validation = meanOf(validations)
	return all
}

// meanOf gives the mean of every single number that all of them measured; nil of none.
func meanOf(all []Metrics) Metrics {
	if len(all) == 0 {
		return nil
	}
	var mean Metrics
	for _, x := range all[0] {
		if x.Matrix != nil {
			continue
		}
		sum := 0.0
		for _, m := range all {
			v, _ := m.Get(x.Name)
			sum += v
		}
		mean = append(mean, Metric{Name: x.Name, Value: sum / float64(len(all))})
	}
	return mean
}

// Run gives the ensemble as one run whose workers are its members, for reports. It has no parameters.
func (r EnsembleResult) Run() Result {
	all := Result{Interrupted: r.Interrupted, Samples: r.Samples, Seconds: r.Seconds, Ended: Ending{Reason: EndComplete}}
	var texts []string
	last := 0
	for m, member := range r.Members {
		for _, w := range member.Workers {
			w.ID = ps.Worker(m)
			all.Workers = append(all.Workers, w)
		}
		if n := len(member.History); n > 0 {
			last = max(last, member.History[n-1].Epoch)
		}
		e := member.Ended
		switch {
		case e.Reason == "" || e.Reason == EndComplete:
		case e.Reason == EndFailed || all.Ended.Reason == EndComplete || e.Reason == EndInterrupted && all.Ended.Reason != EndFailed:
			all.Ended.Reason = e.Reason
		}
		if e.Text != "" {
			texts = append(texts, fmt.Sprintf("member %d: %s", m, e.Text))
		}
	}
	all.Ended.Text = strings.Join(texts, "; ")
	for epoch := 1; epoch <= last; epoch++ {
		parts := map[int]Epoch{}
		for m, member := range r.Members {
			if i := slices.IndexFunc(member.History, func(e Epoch) bool { return e.Epoch == epoch }); i >= 0 {
				parts[m] = member.History[i]
			}
		}
		if len(parts) > 0 {
			all.History = append(all.History, mergeEpochs(parts, len(r.Members)))
		}
	}
	return all
}
