//go:build race

package runner_test

// sample is how many cases of a matrix stand behind each one that is run. The race detector makes a case some forty times slower, so it sees a
// sample; make test runs the whole matrices without it.
const sample = 12
