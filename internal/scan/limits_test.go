package scan_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/plant"
)

// search gives the exact and near matches and the reasons of the gaps.
func search(t *testing.T, o scan.Options, b []byte) (found []scan.Match, reasons []string) {
	t.Helper()
	for _, g := range scan.New(o).Find(t.Context(), b, func(m scan.Match) {
		if m.Grade != scan.Placeholder {
			found = append(found, m)
		}
	}) {
		reasons = append(reasons, g.Reason)
	}
	return found, reasons
}

func only(t *testing.T, reasons []string, want string) {
	t.Helper()
	if len(reasons) != 1 || reasons[0] != want {
		t.Errorf("gaps %q, want %q", reasons, want)
	}
}

func TestBombsAreCutOffAndNamed(t *testing.T) {
	zeros := make([]byte, 64<<20)
	bomb := plant.Gzip(zeros)
	_, reasons := search(t, scan.Options{}, bomb)
	only(t, reasons, scan.ReasonRatio)
	_, reasons = search(t, scan.Options{Limits: scan.Limits{Output: 1 << 20}}, bomb)
	only(t, reasons, scan.ReasonOutput)
	_, reasons = search(t, scan.Options{Limits: scan.Limits{Depth: 1}}, plant.Gzip(plant.Gzip([]byte("text"))))
	only(t, reasons, scan.ReasonDepth)
	now := time.Unix(0, 0)
	_, reasons = search(t, scan.Options{Now: func() time.Time { now = now.Add(time.Minute); return now }}, bomb)
	only(t, reasons, scan.ReasonTime)
}

func TestMembersAreBounded(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 20 {
		if _, err := w.Create(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, reasons := search(t, scan.Options{Limits: scan.Limits{Members: 10}}, b.Bytes())
	only(t, reasons, scan.ReasonMembers)
	b.Reset()
	x := tar.NewWriter(&b)
	for i := range 20 {
		if err := x.WriteHeader(&tar.Header{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	_, reasons = search(t, scan.Options{Limits: scan.Limits{Members: 10}}, b.Bytes())
	only(t, reasons, scan.ReasonMembers)
}

func TestEncryptedMemberIsNamedAndTheOthersSearched(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	m, err := w.CreateRaw(&zip.FileHeader{Name: "shut", Flags: 1, Method: zip.Deflate, CompressedSize64: 9, UncompressedSize64: 9})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = m.Write([]byte("ciphertxt"))
	key := fresh("api03")
	m, _ = w.Create("open")
	_, _ = io.WriteString(m, "a\nb "+key)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	found, reasons := search(t, scan.Options{}, b.Bytes())
	only(t, reasons, scan.ReasonEncrypted)
	if len(found) != 1 || found[0].ID != idOf(key) || found[0].Inner != "open" || found[0].Line != 2 || found[0].Offset != 4 || found[0].Form != "zip" {
		t.Errorf("found %+v", found)
	}
}

func TestDamageHidesNothingBeforeIt(t *testing.T) {
	key := fresh("api03")
	g := plant.New(5)
	packed := plant.Gzip(append([]byte(key+"\n"), g.Noise(1<<20)...))
	found, reasons := search(t, scan.Options{}, packed[:len(packed)-1000])
	only(t, reasons, scan.ReasonDamaged)
	if len(found) != 1 || found[0].ID != idOf(key) {
		t.Errorf("found %+v", found)
	}
}

func TestAnEndedContextIsAGap(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gaps := scan.New(scan.Options{}).Find(ctx, plant.Gzip([]byte("text")), func(scan.Match) {})
	if len(gaps) != 1 || gaps[0].Reason != scan.ReasonStopped {
		t.Errorf("gaps %+v", gaps)
	}
}

func TestAFailingReaderIsAGap(t *testing.T) {
	gaps := scan.New(scan.Options{}).Stream(t.Context(), io.MultiReader(strings.NewReader("text\n"), broken{}), func(scan.Match) {})
	if len(gaps) != 1 || gaps[0].Reason != scan.ReasonUnreadable {
		t.Errorf("gaps %+v", gaps)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestHostileRepetitionStaysCheap(t *testing.T) {
	// Each anchor asks for the decoding of its neighbourhood; together they must not decode the same text over and over.
	for _, unit := range []string{"c2stYW50L", "sk-ant-", "736b2d616e742d", "H4sIAAAA", "%2Dant%2D", `u002dant`, "s\x00k\x00-\x00a\x00n\x00t\x00-\x00", "-api03-", "115,107,45,97,", "sk-ant-\"\""} {
		text := []byte(strings.Repeat(unit, (1<<16)/len(unit)))
		o := scan.Options{Limits: scan.Limits{Output: 16 << 20}}
		_, reasons := search(t, o, text)
		for _, r := range reasons {
			t.Errorf("%q: %s", unit, r)
		}
	}
}
