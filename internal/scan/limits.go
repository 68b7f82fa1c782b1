package scan

import "time"

// Limits bounds what one Find may spend on decoding. Whatever is cut off by a limit is reported as a Gap.
type Limits struct {
	// Depth is the number of decodings and archives within one another. Default 5.
	Depth int
	// Output is the number of bytes that all decodings of one object may give together. Default 1 GiB.
	Output int64
	// Member is the largest single output that is held in memory. Larger ones are searched in windows. Default 32 MiB.
	Member int
	// Ratio is how many times larger than its input a decompression may become, once it exceeds 1 MiB. Default 200.
	Ratio int
	// Members is the number of entries that are read from one archive. Default 200000.
	Members int
	// Time bounds the decoding of one object. Default 2 minutes.
	Time time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Depth, 5)
	set(&l.Member, 32<<20)
	set(&l.Ratio, 200)
	set(&l.Members, 200_000)
	if l.Output <= 0 {
		l.Output = 1 << 30
	}
	if l.Time <= 0 {
		l.Time = 2 * time.Minute
	}
	return l
}
