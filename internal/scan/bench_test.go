package scan_test

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/keywright/keywright/internal/scan"
)

// source gives up to 64 MiB of Go source from the tool chain's own tree.
func source(tb testing.TB) []byte {
	tb.Helper()
	var all []byte
	//nolint:staticcheck // the tree that the tests were built from is the one meant
	err := filepath.WalkDir(filepath.Join(runtime.GOROOT(), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || len(all) > 64<<20 {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil || len(all) < 1<<20 {
		tb.Skipf("the source of the standard library is missing: %v", err)
	}
	return all
}

func BenchmarkAnchored(b *testing.B) {
	noise := make([]byte, 64<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	letters := make([]byte, 64<<20)
	for i := range letters {
		letters[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[r.Uint32()&63]
	}
	s := scan.New(scan.Options{})
	for name, text := range map[string][]byte{"source": source(b), "noise": noise, "base64": letters, "zeros": make([]byte, 64<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s.AnchoredPart(text)
			}
		})
	}
}

func BenchmarkAnchoredInCache(b *testing.B) {
	text := source(b)[:256<<10]
	s := scan.New(scan.Options{})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s.AnchoredPart(text)
	}
}

func BenchmarkCopyInCache(b *testing.B) {
	text := source(b)[:256<<10]
	to := make([]byte, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		copy(to, text)
	}
}
