//go:build !race

package runner_test

// sample is 1: every case of a matrix is run.
const sample = 1
