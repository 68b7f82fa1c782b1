package scan

import "time"

// Limits bounds what one Find may spend on decoding. Whatever is cut off by a limit is reported as a Gap.
type Limits struct {
	// Depth is the number of decodings and archives within one another, where a compressed tar file counts as two. Default 10.
	Depth int
	// Output is the number of bytes that all decodings of one object may give together. Default 4 GiB.
	Output int64
	// Member is how much of one text is held in memory where compressed data in base64 runs on. Default 32 MiB.
	Member int
	// Ratio is how many times larger than its input a decompression may become, once it exceeds 16 MiB. Default 250.
	Ratio int
	// Members is the number of entries that are read from one archive. Default 200000.
	Members int
	// Time bounds the decoding of one object. Default 5 minutes.
	Time time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Depth, 10)
	set(&l.Member, 32<<20)
	set(&l.Ratio, 250)
	set(&l.Members, 200_000)
	if l.Output <= 0 {
		l.Output = 4 << 30
	}
	if l.Time <= 0 {
		l.Time = 5 * time.Minute
	}
	return l
}

// Closed reports whether a reason says that the content itself could not be opened: it is damaged, encrypted, or packed in an unknown way. What
// can be read of it was searched.
func Closed(reason string) bool {
	switch reason {
	case ReasonDamaged, ReasonEncrypted, ReasonMethod, ReasonLength:
		return true
	}
	return false
}

// Limited reports whether a reason says that one of the Limits was reached.
func Limited(reason string) bool {
	switch reason {
	case ReasonOutput, ReasonTime, ReasonDepth, ReasonRatio, ReasonMembers, ReasonRun, ReasonDictionary:
		return true
	}
	return false
}

// The reasons of gaps.
const (
	ReasonStopped    = "stopped"
	ReasonOutput     = "more decoded data than the limit"
	ReasonTime       = "more time than the limit"
	ReasonDepth      = "deeper than the limit"
	ReasonRatio      = "compressed more than the limit"
	ReasonMembers    = "more members than the limit"
	ReasonRun        = "encoded data longer than the limit"
	ReasonDictionary = "dictionary larger than the limit"
	ReasonDamaged    = "damaged data"
	ReasonEncrypted  = "encrypted"
	ReasonMethod     = "unknown compression"
	ReasonLength     = "member of unknown length"
	ReasonUnreadable = "not readable"
)
