package main

import (
	"cmp"
	"math"
	"slices"

	"dkpipe/hdfsio/publish"
	"dkpipe/trainers"
)

// keptCheckpoint is a checkpoint that may be among the best: the first one after the end of an epoch.
type keptCheckpoint struct {
	Version publish.Version `json:"version"`
	Epoch   int             `json:"epoch"` // complete when it was taken
}

// bestCheckpoint is the one after the epoch whose measurement was the best.
type bestCheckpoint struct {
	Path    string  `json:"path"`
	Epoch   int     `json:"epoch"`
	Monitor string  `json:"monitor"`
	Value   float64 `json:"value"`
}

// rank gives the best n of all checkpoints by their epochs' measurements, the best first, and beside them those of epochs that
// wait to be measured, as many at most.
func rank(all []keptCheckpoint, epochs []trainers.Epoch, v *trainers.Validation, n int) (best, waiting []keptCheckpoint) {
	value := func(k keptCheckpoint) (x float64) {
		i := slices.IndexFunc(epochs, func(e trainers.Epoch) bool { return e.Epoch == k.Epoch })
		if i < 0 {
			return math.NaN()
		}
		_, x, less := v.Watched(epochs[i])
		if less {
			return -x
		}
		return x
	}
	for _, k := range all {
		if x := value(k); x == x {
			best = append(best, k)
		} else {
			waiting = append(waiting, k)
		}
	}
	slices.SortStableFunc(best, func(a, b keptCheckpoint) int { return cmp.Compare(value(b), value(a)) })
	return best[:min(n, len(best))], waiting[max(0, len(waiting)-n):]
}

// worth takes in a new checkpoint, if there is one, and gives those that stay because they are among the best.
func (c *checkpoints) worth(v publish.Version, epoch int, epochs []trainers.Epoch) (stay []publish.Version) {
	if c.validation == nil {
		return nil
	}
	all := c.index.Kept
	if v > 0 && epoch > 0 && (len(all) == 0 || all[len(all)-1].Epoch < epoch) {
		all = append(all, keptCheckpoint{v, epoch})
	}
	best, waiting := rank(all, epochs, c.validation, c.job.spec.Train.Checkpoint.KeepBest)
	if c.best = nil; len(best) > 0 {
		b := best[0]
		c.best = &bestCheckpoint{Path: c.root.join(b.Version.String()).String(), Epoch: b.Epoch}
		for _, e := range epochs {
			if e.Epoch == b.Epoch {
				c.best.Monitor, c.best.Value, _ = c.validation.Watched(e)
			}
		}
	}
	c.index.Kept = append(slices.Clone(best), waiting...)
	slices.SortFunc(c.index.Kept, func(a, b keptCheckpoint) int { return cmp.Compare(a.Version, b.Version) })
	for _, k := range c.index.Kept {
		stay = append(stay, k.Version)
	}
	return stay
}
