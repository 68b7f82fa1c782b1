package scan

import (
	"crypto/rand"
	"encoding/hex"
	"math"

	"github.com/keywright/keywright/internal/secret"
)

// strongBits is the estimated entropy from which on a fingerprint cannot be guessed back.
const strongBits = 128

// bitsPerByte is the Shannon entropy of the distribution of bytes in b.
func bitsPerByte(b []byte) float64 {
	var count [256]int
	for _, c := range b {
		count[c]++
	}
	sum := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(b))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

func freshKey() secret.Value {
	k := make([]byte, 32)
	_, _ = rand.Read(k) // never fails
	return secret.New(k)
}

func localID(store secret.Value, body []byte) ID {
	return ID("kl_" + hex.EncodeToString(store.HMAC(body)[:8]))
}
