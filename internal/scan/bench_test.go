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

// source gives the files of the tool chain's own source.
func source(tb testing.TB) (files [][]byte) {
	tb.Helper()
	//nolint:staticcheck // the tree that the tests were built from is the one meant
	err := filepath.WalkDir(filepath.Join(runtime.GOROOT(), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, b)
		return err
	})
	if err != nil || len(files) < 1000 {
		tb.Skipf("the source of the standard library is missing: %v", err)
	}
	return files
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
	b.Run("source", func(b *testing.B) {
		files, size := source(b), 0
		for _, f := range files {
			size += len(f)
		}
		b.SetBytes(int64(size))
		for b.Loop() {
			for _, f := range files {
				s.AnchoredPart(f)
			}
		}
	})
	for name, text := range map[string][]byte{"noise": noise, "base64": letters, "zeros": make([]byte, 64<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s.AnchoredPart(text)
			}
		})
	}
}
