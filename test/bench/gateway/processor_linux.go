package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// processor gives the user and system time of all threads of a process so far, in nanoseconds and not in ticks.
func processor(pid int) (time.Duration, error) {
	var t unix.Timespec
	// The clock of a process is its number, inverted, with the kind of clock in the lowest bits: see clock_getcpuclockid(3).
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil { //nolint:gosec // Process numbers are small.
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}
