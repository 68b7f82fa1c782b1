//go:build !linux

package main

import (
	"errors"
	"time"
)

// processor is known on Linux alone.
func processor(int) (time.Duration, error) {
	return 0, errors.New("the processor time of another process is known on Linux alone")
}
