// Package trainertest holds what every training algorithm must pass, and small real things to run it on: a data set in
// memory with scripted faults, and a linear model with exact gradients whose best parameters are known.
//
// Its one idea: an algorithm is right when it agrees with its paper in numbers worked out by hand (Golden), and when
// it finds the known minimum through the real server whatever happens on the way (Run).
package trainertest
