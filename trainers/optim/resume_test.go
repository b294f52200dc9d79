package optim_test

import (
	"testing"

	"dkpipe/trainers/optim"
)

func TestAScheduleThatIsWrongIsRefusedAfterAResumeToo(t *testing.T) {
	wrong := func(into any) error {
		into.(*optim.SGD).LearningRate = optim.Scheduled(optim.CosineDecay{})
		return nil
	}
	_, first := optim.New("sgd", wrong, 1)
	_, again := optim.New("sgd", optim.StartingAt(3, wrong), 1)
	if first == nil || again == nil || first.Error() != again.Error() {
		t.Errorf("%v, and resumed: %v", first, again)
	}
}

// halving is a learning rate that is halved every step.
type halving struct{}

func (halving) At(step float64) float64 { return 1 / float64(int(1)<<int(step)) }

func TestAScheduleGoesOnAfterAResume(t *testing.T) {
	o, err := optim.New("sgd", optim.StartingAt(3, func(into any) error {
		into.(*optim.SGD).LearningRate = optim.Scheduled(halving{})
		return nil
	}), 1)
	if err != nil {
		t.Fatal(err)
	}
	x := []float32{0}
	for _, want := range []float32{-0.125, -0.1875} { // 2^-3, then 2^-4 more
		if o.Apply(x, []float32{1}); x[0] != want {
			t.Errorf("got %v, want %v", x[0], want)
		}
	}
}
