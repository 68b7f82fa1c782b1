package scan_test

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/scan"
)

// fresh makes a key of the usual layout that no grade takes for a placeholder.
func fresh(kind string) string {
	body := rand.Text() + strings.ToLower(rand.Text()) + rand.Text() + strings.ToLower(rand.Text())
	return strings.Join([]string{"sk", "ant", kind, body[:86], rand.Text()[:6] + "AA"}, "-")
}

func find(t *testing.T, s *scan.Searcher, b string) []scan.Match {
	t.Helper()
	var all []scan.Match
	if gaps := s.Find(t.Context(), []byte(b), func(m scan.Match) { all = append(all, m) }); gaps != nil {
		t.Errorf("gaps: %+v", gaps)
	}
	return all
}

func idOf(key string) scan.ID {
	return scan.ID(apikey.Digest(sha256.Sum256([]byte(key))).Fingerprint())
}

func TestPlainKeyIsFoundWhateverStandsBesideIt(t *testing.T) {
	s := scan.New(scan.Options{})
	for _, edge := range []string{"", "x", "_", "-", "9", "\"", "\n", "\r\n", "\x00", "=", "\xff", "ÿ", "AA", "\\n", "%22"} {
		for pad := range 9 {
			key := fresh("api03")
			text := strings.Repeat("\n", pad) + edge + key + edge
			if !s.Anchored([]byte(text)) {
				t.Fatalf("%q beside the key: not anchored", edge)
			}
			got := find(t, s, text)
			if len(got) != 1 || got[0].ID != idOf(key) || got[0].Grade != scan.Exact || got[0].Offset != int64(pad+len(edge)) {
				t.Fatalf("%q beside the key: %+v", edge, got)
			}
		}
	}
}
