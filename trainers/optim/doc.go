// Package optim holds the local optimizers: update rules over one flat parameter vector and its gradient.
//
// Its one idea: an optimizer knows nothing of layers. A model's parameters and gradients are one []float32 each, so a
// step is one pass over memory and an optimizer's state is a few vectors of the same length. Formulas, names and
// defaults are those of Keras, so a setting that works there works here.
//
// One algorithm a file: its settings are a struct, its formula a rule. What all of them share, which is learning rate
// schedules, weight decay and clipping, happens around the rule, so a rule is ten lines of arithmetic.
package optim
