package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

func signer(t testing.TB) *audit.Signer {
	t.Helper()
	s, err := audit.OpenSigner(filepath.Join(t.TempDir(), "audit.key"), "", true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifier(s *audit.Signer, inside, outside []audit.Checkpoint) audit.Verifier {
	return audit.Verifier{Store: store, Keys: []ed25519.PublicKey{s.Public()}, Checkpoints: inside, Witnessed: outside}
}

// relink gives entries with hashes made good from index i on, as somebody would who can write to the store but not sign.
func relink(entries []audit.Entry, i int) {
	prev := audit.Genesis(store)
	for j := range entries {
		if j >= i {
			entries[j].Prev, entries[j].Seq = prev, int64(j+1)
			entries[j].Hash = entries[j].Sum()
		}
		prev = entries[j].Hash
	}
}

func TestVerify(t *testing.T) {
	s, stranger := signer(t), signer(t)
	good := record(t, 10)
	at5 := must(s.Sign(good[4], noon))
	at8 := must(s.Sign(good[7], noon))
	foreign := must(stranger.Sign(good[7], noon))
	forged := at8
	forged.Seq, forged.Hash = 9, good[8].Hash
	otherStore := must(s.Sign(must(audit.Link(audit.Entry{}, good[0].Event, "s_other")), noon))
	fork := slices.Clone(good)
	fork[7].Event.Text = "otherwise"
	relink(fork, 7)
	forked := must(s.Sign(fork[7], noon))

	type list = []audit.Checkpoint
	for name, c := range map[string]struct {
		inside, outside list
		change          func([]audit.Entry) []audit.Entry
		want            string // in the first problem; empty: none
		vouched         int64  // by a witness
		signed          int64  // inside
	}{
		"whole":                     {list{at5}, list{at8}, nil, "", 8, 5},
		"no checkpoint":             {nil, nil, nil, "", 0, 0},
		"edited":                    {list{at5}, list{at8}, func(e []audit.Entry) []audit.Entry { e[6].Event.Text = "else"; return e }, "entry 7 was changed", 0, 5},
		"edited, hash made good":    {list{at5}, nil, func(e []audit.Entry) []audit.Entry { e[6].Event.Text = "else"; e[6].Hash = e[6].Sum(); return e }, "entry 8 does not follow", 0, 5},
		"rewritten from 3":          {list{at8}, list{at5}, func(e []audit.Entry) []audit.Entry { e[2].Event.Text = "else"; relink(e, 2); return e }, "entry 5 is not the one", 0, 0},
		"rewritten from 7":          {list{at5}, list{at8}, func(e []audit.Entry) []audit.Entry { e[6].Event.Actor = "else"; relink(e, 6); return e }, "entry 8 is not the one", 0, 5},
		"gap":                       {nil, list{at8}, func(e []audit.Entry) []audit.Entry { return slices.Delete(e, 3, 4) }, "entry 4 is missing", 0, 0},
		"wide gap":                  {nil, list{at5}, func(e []audit.Entry) []audit.Entry { return slices.Delete(e, 5, 8) }, "entries 6 to 8 are missing", 5, 0},
		"left out and renumbered":   {nil, list{at8}, func(e []audit.Entry) []audit.Entry { e = slices.Delete(e, 3, 4); relink(e, 3); return e }, "entry 8 is not the one", 0, 0},
		"swapped":                   {nil, list{at5}, func(e []audit.Entry) []audit.Entry { e[6], e[7] = e[7], e[6]; return e }, "entry 7 is missing", 5, 0},
		"repeated":                  {nil, list{at5}, func(e []audit.Entry) []audit.Entry { return slices.Insert(e, 7, e[6]) }, "entry 7 stands where 8 is due", 5, 0},
		"first missing":             {nil, list{at5}, func(e []audit.Entry) []audit.Entry { return e[1:] }, "entry 1 is missing", 0, 0},
		"other store":               {nil, nil, func(e []audit.Entry) []audit.Entry { e[9].Store = "s_other"; e[9].Hash = e[9].Sum(); return e }, "entry 10 belongs to another store", 0, 0},
		"cut before":                {list{at5}, list{at8}, func(e []audit.Entry) []audit.Entry { return e[:7] }, "the end was cut off", 0, 5},
		"empty":                     {list{at5}, nil, func([]audit.Entry) []audit.Entry { return nil }, "the end was cut off", 0, 0},
		"cut behind: not seen":      {list{at5}, list{at8}, func(e []audit.Entry) []audit.Entry { return e[:8] }, "", 8, 5},
		"rewrite behind: not seen":  {list{at5}, list{at8}, func(e []audit.Entry) []audit.Entry { e[8].Event.Text = "x"; relink(e, 8); return e }, "", 8, 5},
		"two signed histories":      {list{at8}, list{forked}, nil, "entry 8 is not the one", 0, 8},
		"checkpoint of a stranger":  {list{foreign}, list{at5}, nil, "unknown key", 5, 0},
		"checkpoint forged":         {list{forged}, list{at5}, nil, "wrong signature", 5, 0},
		"checkpoint of other store": {list{otherStore}, list{at5}, nil, "another store", 5, 0},
		"witness of many stores":    {list{at5}, list{otherStore, at8}, nil, "", 8, 5},
	} {
		entries := slices.Clone(good)
		if c.change != nil {
			entries = c.change(entries)
		}
		r, err := verifier(s, c.inside, c.outside).Verify(each(entries))
		if c.want == "" && (err != nil || r.Err() != nil) || c.want != "" && (!fault.Is(err, fault.Corrupt) || !strings.Contains(r.Problems[0].Text, c.want) || fault.HintOf(err) == "") {
			t.Errorf("%s: %v, %v", name, err, r.Problems)
		}
		seq := func(c *audit.Checkpoint) int64 {
			if c == nil {
				return 0
			}
			return c.Seq
		}
		if seq(r.Outside) != c.vouched || seq(r.Inside) != c.signed || r.Entries != int64(len(entries)) {
			t.Errorf("%s: witnessed %d, signed %d, %d entries", name, seq(r.Outside), seq(r.Inside), r.Entries)
		}
		// The statement claims protection up to the witnessed checkpoint at most.
		said := strings.Join(r.Statement(), "\n")
		if strings.Contains(said, audit.NotProtected) != (c.vouched == 0 || r.Last > c.vouched) || strings.Contains(said, "vouched for up to entry") != (c.vouched > 0) {
			t.Errorf("%s: %s", name, said)
		}
	}
}

func TestVerifyReadsOnAndStops(t *testing.T) {
	s := signer(t)
	good := record(t, 6)
	fails := func(at int, err error) iter.Seq2[audit.Entry, error] {
		return func(yield func(audit.Entry, error) bool) {
			for i, e := range good {
				if i == at {
					if !yield(audit.Entry{}, err) {
						return
					}
				} else if !yield(e, nil) {
					return
				}
			}
		}
	}
	r, err := verifier(s, nil, nil).Verify(fails(2, fault.New(fault.Corrupt, "read row")))
	if !fault.Is(err, fault.Corrupt) || len(r.Problems) != 1 || r.Problems[0].Seq != 3 || r.Entries != 6 || r.Head != good[5].Hash {
		t.Errorf("one unreadable entry: %v, %+v", err, r)
	}
	down := fault.New(fault.Unavailable, "read row")
	r, err = verifier(s, nil, nil).Verify(fails(4, down))
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, down) || r.Entries != 4 {
		t.Errorf("the store goes away: %v, %+v", err, r)
	}
	for _, v := range []audit.Verifier{{}, {Store: store}, {Keys: []ed25519.PublicKey{s.Public()}}} {
		if _, err := v.Verify(each(good)); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v", v, err)
		}
	}
	var many []audit.Entry
	for range 150 {
		many = append(many, audit.Entry{Store: store, Seq: 7})
	}
	r, err = verifier(s, nil, nil).Verify(each(many))
	if len(r.Problems) != 100 || r.More < 50 || !strings.Contains(fmt.Sprint(err), "more)") || !strings.Contains(r.Statement()[0], "problems in 150 entries") {
		t.Errorf("many problems: %d and %d, %v, %v", len(r.Problems), r.More, err, r.Statement())
	}
}

func TestSignerFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.key")
	if _, err := audit.OpenSigner(path, "", false); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file, and not the first run: %v", err)
	}
	s := must(audit.OpenSigner(path, "", true))
	if info := must(os.Stat(path)); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	again := must(audit.OpenSigner(path, filepath.Join(dir, "data"), true))
	if again.KeyID() != s.KeyID() || !again.Public().Equal(s.Public()) {
		t.Error("opened twice, and it is another key")
	}
	raw := must(os.ReadFile(path))
	if out := fmt.Sprintf("%v %+v %#v", s, *s, *s); strings.Contains(out, fmt.Sprintf("%x", raw[40:60])) || strings.Contains(out, "PRIVATE") {
		t.Error("printing a signer shows its key")
	}
	if _, err := audit.OpenSigner(path, dir, true); !fault.Is(err, fault.Forbidden) {
		t.Errorf("in the data directory: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.OpenSigner(path, "", true); !fault.Is(err, fault.Forbidden) || fault.HintOf(err) == "" {
		t.Errorf("readable by the group: %v", err)
	}
	public := must(audit.PublicPEM(s.Public()))
	for what, content := range map[string][]byte{"empty": {}, "garbage": []byte("x"), "public": public, "two": append(slices.Clone(raw), raw...), "cut": raw[:60], "inside": bytes.Replace(raw, []byte("MC4"), []byte("MC5"), 1)} {
		p := filepath.Join(dir, what)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.OpenSigner(p, "", true); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
		if after := must(os.ReadFile(p)); !bytes.Equal(after, content) {
			t.Errorf("%s: the file was overwritten", what)
		}
	}
	if _, err := s.Sign(audit.Entry{}, noon); !fault.Is(err, fault.Invalid) {
		t.Errorf("signed nothing: %v", err)
	}
}

func TestPublicKeys(t *testing.T) {
	a, b := signer(t), signer(t)
	text := must(audit.PublicPEM(a.Public(), b.Public()))
	keys, err := audit.ParsePublicKeys(append([]byte("\n"), text...))
	if err != nil || len(keys) != 2 || audit.KeyID(keys[0]) != a.KeyID() || audit.KeyID(keys[1]) != b.KeyID() {
		t.Errorf("%v, %v", keys, err)
	}
	ec := "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEmG7YvZXkMbVOnWVVXQuQ1RNGhGJ9RgZpEJqWpA2WXJcxQ0hYzLq0rYq5DmZK\n-----END PUBLIC KEY-----\n"
	for what, bad := range map[string]string{"empty": "", "text": "x", "around": "x\n" + string(text), "behind": string(text) + "x", "cut": string(text[:80]), "other sort": ec, "other label": strings.ReplaceAll(string(text), "PUBLIC", "PRIVATE")} {
		if keys, err := audit.ParsePublicKeys([]byte(bad)); !fault.Is(err, fault.Invalid) || keys != nil {
			t.Errorf("%s: %v, %v", what, keys, err)
		}
	}
}

func TestCheckpointLine(t *testing.T) {
	s := signer(t)
	c := must(s.Sign(record(t, 3)[2], noon))
	back, err := audit.ParseCheckpoint(c.Line())
	if err != nil || !back.Verify(s.Public()) || back.Seq != 3 {
		t.Errorf("%+v, %v", back, err)
	}
	if c.Verify(signer(t).Public()) || c.Verify(nil) {
		t.Error("a stranger's key verifies it")
	}
	line := string(c.Line())
	for i := range line {
		b := []byte(line)
		b[i] ^= 1
		if got, err := audit.ParseCheckpoint(b); err == nil && got.Verify(s.Public()) && got.KeyID == c.KeyID {
			t.Errorf("byte %d can be changed", i)
		}
	}
}

// An attacker who can write the store, but neither sign nor reach the witness, is found in all that a checkpoint fixed.
func TestRewritesOfTheCheckpointedPrefixAreFound(t *testing.T) {
	s := signer(t)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "entries")
		var good []audit.Entry
		var last audit.Entry
		for range n {
			last = must(audit.Link(last, event.Event{At: noon, Type: "x", Text: rapid.StringN(0, 5, 20).Draw(t, "text")}, store))
			good = append(good, last)
		}
		fixed := rapid.IntRange(1, n).Draw(t, "checkpoint")
		c := must(s.Sign(good[fixed-1], noon))
		i := rapid.IntRange(0, fixed-1).Draw(t, "changed")
		e := slices.Clone(good)
		switch rapid.IntRange(0, 4).Draw(t, "how") {
		case 0:
			e[i].Event.Text += "."
		case 1:
			e = slices.Delete(e, i, i+1)
		case 2:
			e = slices.Insert(e, i, e[i])
		case 3:
			e = e[:i]
		case 4:
			e[i].Event.At = e[i].Event.At.Add(1000)
		}
		if rapid.Bool().Draw(t, "relink") {
			relink(e, i)
		}
		r, err := verifier(s, nil, []audit.Checkpoint{c}).Verify(each(e))
		intact := slices.EqualFunc(e[:min(len(e), fixed)], good[:fixed], func(a, b audit.Entry) bool { return bytes.Equal(a.Line(), b.Line()) })
		if !intact && !fault.Is(err, fault.Corrupt) {
			t.Fatalf("not found: %v", err)
		}
		if (r.Outside != nil) != intact {
			t.Fatalf("vouches for %+v", r.Outside)
		}
	})
}
