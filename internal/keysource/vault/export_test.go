package vault

import "time"

// SetClock gives the reader another clock.
func (r *Reader) SetClock(now func() time.Time) { r.now = now }
