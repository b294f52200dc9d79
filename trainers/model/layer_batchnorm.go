package model

import (
	"fmt"

	"dkpipe/trainers/model/graph"
)

// BatchNormalization brings every channel (the last dimension) to mean 0 and variance 1, then scales and shifts it, as
// keras.layers.BatchNormalization with axis -1. While training it uses the batch's mean and variance, in inference the
// moving ones, which are State: moving_mean, then moving_variance. A frozen one uses the moving ones always. In distributed training every worker has its own; at the
// end of a run the state of the centre is computed anew by Network.Gather (trainers.Result.State).
type BatchNormalization struct {
	Momentum                  float64     `yaml:"momentum"` // default 0.99
	Epsilon                   float64     `yaml:"epsilon"`  // default 0.001
	Center                    bool        `yaml:"center"`   // there is a beta; default true
	Scale                     bool        `yaml:"scale"`    // there is a gamma; default true
	BetaInitializer           Initializer `yaml:"beta_initializer"`
	GammaInitializer          Initializer `yaml:"gamma_initializer"`
	MovingMeanInitializer     Initializer `yaml:"moving_mean_initializer"`     // not a random one
	MovingVarianceInitializer Initializer `yaml:"moving_variance_initializer"` // not a random one
	BetaRegularizer           Regularizer `yaml:"beta_regularizer"`
	GammaRegularizer          Regularizer `yaml:"gamma_regularizer"`
}

var _ Op = (*BatchNormalization)(nil)

func newBatchNormalization() *BatchNormalization {
	return &BatchNormalization{Momentum: 0.99, Epsilon: 1e-3, Center: true, Scale: true,
		BetaInitializer: Zeros, GammaInitializer: Ones, MovingMeanInitializer: Zeros, MovingVarianceInitializer: Ones}
}

// Kind is batch_normalization.
func (*BatchNormalization) Kind() string { return "batch_normalization" }

func (n *BatchNormalization) check() error {
	if !(n.Momentum >= 0 && n.Momentum <= 1) {
		return fmt.Errorf("momentum is %g, must be from 0 to 1", n.Momentum)
	}
	if !(n.Epsilon > 0) {
		return fmt.Errorf("epsilon is %g, must be above 0", n.Epsilon)
	}
	for _, i := range []Initializer{n.MovingMeanInitializer, n.MovingVarianceInitializer} {
		c, err := i.Config()
		if err != nil {
			return err
		}
		if c.Name != "zeros" && c.Name != "ones" && c.Name != "constant" {
			return fmt.Errorf("moving statistics start with %s: must be zeros, ones or constant", i)
		}
	}
	return first(n.BetaInitializer.check(), n.GammaInitializer.check(), n.BetaRegularizer.check(), n.GammaRegularizer.check())
}

func (n *BatchNormalization) shape(in [][]int) ([]int, error) { return one(in) }

func (n *BatchNormalization) variables(in [][]int) []variable {
	channels := []int{lastOf(in[0])}
	var v []variable
	if n.Scale {
		v = append(v, variable{name: "gamma", shape: channels, init: n.GammaInitializer, reg: n.GammaRegularizer})
	}
	if n.Center {
		v = append(v, variable{name: "beta", shape: channels, init: n.BetaInitializer, reg: n.BetaRegularizer})
	}
	return append(v, variable{name: "moving_mean", shape: channels, init: n.MovingMeanInitializer, state: true},
		variable{name: "moving_variance", shape: channels, init: n.MovingVarianceInitializer, state: true})
}

func (n *BatchNormalization) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	gamma, beta := scaleAndShift(l.params, n.Scale, n.Center)
	return l.b.BatchNorm(in[0], gamma, beta, graph.BatchNormConfig{Channels: lastOf(l.in[0]), State: l.state[0],
		Momentum: n.Momentum, Epsilon: n.Epsilon, Training: l.training && !l.frozen})
}

// scaleAndShift gives gamma and beta, as far as a layer has them.
func scaleAndShift(params []graph.Node, scale, shift bool) (gamma, beta graph.Node) {
	if scale {
		gamma, params = params[0], params[1:]
	}
	if shift {
		beta = params[0]
	}
	return gamma, beta
}
