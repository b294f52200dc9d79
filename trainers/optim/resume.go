package optim

// StartingAt gives a decode for New whose learning-rate schedule goes on as after this many steps: for an optimizer that
// takes the place of one whose state is lost. Only the schedule goes on; moments, and what corrects them for being young,
// begin anew.
func StartingAt(steps float64, decode func(any) error) func(any) error {
	return func(into any) error {
		if decode != nil {
			if err := decode(into); err != nil {
				return err
			}
		}
		if s, ok := into.(settings); ok && steps > 0 && s.shared().LearningRate.schedule != nil {
			s.shared().LearningRate = Scheduled(later{s.shared().LearningRate.schedule, steps})
		}
		return nil
	}
}

// later is a schedule that has begun before.
type later struct {
	Schedule
	steps float64
}

// At implements Schedule.
func (l later) At(step float64) float64 { return l.Schedule.At(l.steps + step) }

func (l later) check() error {
	if c, ok := l.Schedule.(interface{ check() error }); ok {
		return c.check()
	}
	return nil
}
