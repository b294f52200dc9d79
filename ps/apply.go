package ps

// applier runs a rule over the blocks of a vector. One server and many data servers go through the same code with the same
// blocks, which is why their results are equal in every bit.
type applier struct {
	rule   Rule
	block  int
	total  []float32 // one block: the mean of a round
	reply  []float32 // one block
	scaled []float32 // one block
}

// contribution is one delta of a step and where the reply to it goes; reply may be nil, or the delta itself.
type contribution struct {
	delta []float32
	scale float32
	reply []float32
}

func newApplier(rule Rule, block int) applier {
	return applier{rule: rule, block: block, total: make([]float32, block), reply: make([]float32, block), scaled: make([]float32, block)}
}

// one applies a single commit. Unless the reply has memory of its own, each block goes by way of a scratch block, which stays
// in the cache, and so does a delta that is scaled. from is what the worker started from, for a BaseRule.
func (a *applier) one(centre, slots []float32, d contribution, from []float32, cm Commit) {
	n, k := len(centre), a.rule.Slots()
	direct := d.reply != nil && n > 0 && &d.reply[0] != &d.delta[0]
	for lo := 0; lo < n; lo += a.block {
		hi := min(lo+a.block, n)
		out, delta := a.reply[:hi-lo:hi-lo], d.delta[lo:hi:hi]
		if direct {
			out = d.reply[lo:hi:hi]
		}
		if d.scale != 1 {
			delta = a.scaled[: hi-lo : hi-lo]
			scale(delta, d.delta[lo:hi], d.scale)
		}
		if from != nil {
			cm.From = from[lo:hi:hi]
		}
		a.rule.Apply(centre[lo:hi:hi], slots[k*lo:k*hi:k*hi], delta, out, cm)
		if !direct && d.reply != nil {
			copy(d.reply[lo:hi], out)
		}
	}
}

// mean applies the mean of the deltas of a round as one commit, and gives the reply to all of them.
func (a *applier) mean(centre, slots []float32, deltas []contribution, share int, cm Commit) {
	n, k := len(centre), a.rule.Slots()
	for lo := 0; lo < n; lo += a.block {
		hi := min(lo+a.block, n)
		delta, reply := a.total[:hi-lo:hi-lo], a.reply[:hi-lo:hi-lo]
		a.meanOf(delta, deltas, lo, share)
		a.rule.Apply(centre[lo:hi:hi], slots[k*lo:k*hi:k*hi], delta, reply, cm)
		for _, d := range deltas {
			if d.reply != nil {
				copy(d.reply[lo:hi], reply)
			}
		}
	}
}

// meanOf fills dst with the deltas from element lo on, divided by share: summed in the order of worker numbers, one addition
// after the other, so that the bits do not depend on who came first.
func (a *applier) meanOf(dst []float32, deltas []contribution, lo, share int) {
	for i, d := range deltas {
		delta := d.delta[lo : lo+len(dst)]
		if d.scale != 1 {
			scale(a.scaled[:len(dst)], delta, d.scale)
			delta = a.scaled[:len(dst)]
		}
		if i == 0 {
			copy(dst, delta)
			continue
		}
		for j, v := range delta {
			dst[j] += v
		}
	}
	if share > 1 {
		scale(dst, dst, 1/float32(share))
	}
}
