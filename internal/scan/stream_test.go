package scan_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/keywright/keywright/internal/scan"
)

// endless gives the same character for ever, without a line end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestAStreamNeedsLittleMemoryWhateverItsLength(t *testing.T) {
	key := fresh("api03")
	s := scan.New(scan.Options{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found := 0
	gaps := s.Stream(t.Context(), io.MultiReader(io.LimitReader(endless{}, 100<<20), strings.NewReader("="+key)), func(m scan.Match) {
		if m.ID == idOf(key) && m.Offset == 100<<20+1 && m.Line == 1 {
			found++
		}
	})
	runtime.ReadMemStats(&after)
	if found != 1 || gaps != nil {
		t.Errorf("found %d, gaps %+v", found, gaps)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes allocated for a line of 100 MiB", n)
	}
}

// A key is found wherever the end of a window cuts it.
func TestAKeyAcrossWindows(t *testing.T) {
	s := scan.New(scan.Options{})
	key := fresh("api03")
	const window = 1 << 20
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	for _, at := range []int{0, 500_000, window - 300, window - 145, window - 144, window - 143, window - 70, window - 5, window, window - 65536, window - 65536 - 54} {
		found := 0
		s.Stream(t.Context(), io.MultiReader(io.LimitReader(endless{}, int64(at)), strings.NewReader("\""+encoded+"\""+strings.Repeat("y", 2<<20))), func(m scan.Match) {
			if m.ID != idOf(key) || m.Offset != int64(at+1) {
				t.Errorf("encoded at %d: %+v", at, m)
			}
			found++
		})
		if found != 1 {
			t.Errorf("encoded at %d: found %d times", at, found)
		}
	}
	for _, at := range []int{window - 200, window - 108, window - 107, window - 60, window - 7, window - 3, window, window + 1, window - 65536, window - 65536 - 54} {
		found := 0
		s.Stream(t.Context(), io.MultiReader(io.LimitReader(endless{}, int64(at)), strings.NewReader("\""+key+"\""+strings.Repeat("y", 200_000))), func(m scan.Match) {
			if m.ID != idOf(key) || m.Offset != int64(at+1) {
				t.Errorf("at %d: %+v", at, m)
			}
			found++
		})
		if found != 1 {
			t.Errorf("at %d: found %d times", at, found)
		}
	}
}

// TestAFailingReaderIsNoDamagedArchive: what cannot be read is not taken for what cannot be opened.
func TestAFailingReaderIsNoDamagedArchive(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	if _, err := z.Write(noise); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	half := packed.Bytes()[:packed.Len()/2]
	for name, c := range map[string]struct {
		r    io.Reader
		want string
	}{
		"ends":  {bytes.NewReader(half), scan.ReasonDamaged},
		"fails": {io.MultiReader(bytes.NewReader(half), iotest.ErrReader(errors.New("input/output error"))), scan.ReasonUnreadable},
	} {
		gaps := scan.New(scan.Options{}).Stream(t.Context(), c.r, func(scan.Match) {})
		if !slices.ContainsFunc(gaps, func(g scan.Gap) bool { return g.Reason == c.want }) || c.want == scan.ReasonDamaged && len(gaps) != 1 {
			t.Errorf("%s: %+v", name, gaps)
		}
	}
}
