// Package plant hides made-up keys in a throw-away folder in every way that the scanner promises to find, beside stand-ins and look-alikes that
// it must not report, and says where each is. It is used by tests alone and is not in the binary.
//
// Keys are drawn from a seed, so that a failure can be repeated; they were never issued by anybody.
package plant

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
)

// Row is one line of the truth: a key in a place, or a negative. It holds no value.
type Row struct {
	Place       string             `json:"place"`          // what the hiding place is
	Path        string             `json:"path,omitempty"` // below the folder
	Fingerprint apikey.Fingerprint `json:"fingerprint,omitempty"`
	Family      string             `json:"family,omitempty"`
	Kind        string             `json:"kind,omitempty"`
	Near        bool               `json:"near,omitempty"` // the expected grade is near, not exact
	// Of a key in a repository, Spots are all its places, and Exposure says what must be said of it.
	Spots    []Spot    `json:"spots,omitempty"`
	Exposure *Exposure `json:"exposure,omitempty"`
}

// Truth says what was planted.
type Truth struct {
	Seed      uint64 `json:"seed"`
	Keys      []Row  `json:"keys"`
	Negatives []Row  `json:"negatives"`
}

// Write stores the truth as JSON.
func (t Truth) Write(path string) error {
	b, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

// Sort is a sort of key that can be drawn.
type Sort struct {
	Family, Kind string
	Near         bool
	draw         func(*Garden) string
}

// Garden draws keys and noise from a seed. It is not safe for concurrent use.
type Garden struct{ r *rand.Rand }

// New gives the garden of a seed.
func New(seed uint64) *Garden { return &Garden{r: rand.New(rand.NewPCG(seed, 0x6b657977))} } // repeatable on purpose

const (
	alnum   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	urlSafe = alnum + "-_"
)

// Text draws n characters of an alphabet.
func (g *Garden) Text(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.r.IntN(len(alphabet))]
	}
	return string(b)
}

// Noise draws n bytes.
func (g *Garden) Noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return b
}

// Key draws an API key of the usual layout.
func (g *Garden) Key() string { return g.anthropic("api03") }

// anthropic draws a body whose first and last characters are no separators, so that a place may put any beside it.
func (g *Garden) anthropic(kind string) string {
	body := g.Text(urlSafe, 86) + "-" + g.Text(urlSafe, 6) + "AA"
	if g.r.IntN(4) == 0 {
		body = g.Text(urlSafe, 93) + "AA"
	}
	return strings.Join([]string{"sk", "ant", kind, body}, "-")
}

// Sorts gives every sort of key, the API key of the provider first.
func Sorts() []Sort {
	a := func(kind, name string, near bool) Sort {
		return Sort{"anthropic", kind, near, func(g *Garden) string { return g.anthropic(name) }}
	}
	o := func(kind, prefix string, half int) Sort {
		return Sort{"openai", kind, false, func(g *Garden) string {
			return prefix + g.Text(alnum, half) + "T3Blbk" + "FJ" + g.Text(alnum, half)
		}}
	}
	return []Sort{
		a("API key", "api03", false), a("admin key", "admin01", false), a("scoped key", "api01", false), a("OAuth access token", "oat01", false),
		a("OAuth refresh token", "ort01", false), a("session key", "sid01", false), a("session key", "sid02", false), a("unfamiliar kind", "xyz07", true),
		o("project key", "sk-"+"proj-", 74), o("service account key", "sk-"+"svcacct-", 58), o("admin key", "sk-"+"admin-", 74), o("user key", "sk-", 20),
		{"anthropic", "webhook secret", false, func(g *Garden) string { return "whs" + "ec_" + g.Text(alnum, 43) + "=" }},
	}
}

// Place is a way to hide a key.
type Place struct {
	Name string
	// File is the path of the file below the folder; "KEY" in it stands for the key. Empty gives "NUMBER-NAME".
	File string
	// Sort is the sort of key; nil means the API key.
	Sort *Sort
	// Make gives the content of the file.
	Make func(g *Garden, key string) []byte
}

// Draw draws a key for the place and gives the file's path, its content and the row of the truth.
func (p Place) Draw(g *Garden, number int) (path string, content []byte, row Row) {
	sort := Sorts()[0]
	if p.Sort != nil {
		sort = *p.Sort
	}
	key := sort.draw(g)
	path = p.File
	if path == "" {
		path = fmt.Sprintf("places/%03d-%s", number, strings.NewReplacer(" ", "-", "/", "-").Replace(p.Name))
	}
	path = strings.ReplaceAll(path, "KEY", key)
	d := apikey.Digest(sha256.Sum256([]byte(key)))
	row = Row{Place: p.Name, Path: path, Fingerprint: d.Fingerprint(), Family: sort.Family, Kind: sort.Kind, Near: sort.Near}
	return path, p.Make(g, key), row
}

// Tree plants every place and every negative below dir, which must exist, and gives the truth.
func Tree(dir string, seed uint64) (Truth, error) {
	g := New(seed)
	t := Truth{Seed: seed}
	put := func(path string, content []byte) error {
		full := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return err
		}
		return os.WriteFile(full, content, 0o600)
	}
	for i, p := range Places() {
		path, content, row := p.Draw(g, i)
		if err := put(path, content); err != nil {
			return t, fmt.Errorf("plant %s: %w", p.Name, err)
		}
		t.Keys = append(t.Keys, row)
	}
	for i, n := range Negatives() {
		path := fmt.Sprintf("negatives/%03d-%s", i, strings.ReplaceAll(n.Name, " ", "-"))
		if err := put(path, n.Make(g)); err != nil {
			return t, fmt.Errorf("plant %s: %w", n.Name, err)
		}
		t.Negatives = append(t.Negatives, Row{Place: n.Name, Path: path})
	}
	return t, nil
}

// Places gives every hiding place. Their order is fixed.
func Places() []Place {
	var all []Place
	for _, list := range [][]Place{plainPlaces(), edgePlaces(), sortPlaces(), encodedPlaces(), escapedPlaces(), splitPlaces(), archivePlaces(), cornerPlaces()} {
		all = append(all, list...)
	}
	return all
}

// around gives a Make that puts text before and behind the key.
func around(before, behind string) func(*Garden, string) []byte {
	return func(_ *Garden, key string) []byte { return []byte(before + key + behind) }
}

// sortPlaces hides one key of every sort.
func sortPlaces() []Place {
	var all []Place
	for _, s := range Sorts() {
		all = append(all, Place{Name: s.Family + " " + s.Kind, Sort: &s, Make: around("secret: \"", "\"\n")},
			Place{Name: s.Family + " " + s.Kind + " in base64", Sort: &s, Make: func(g *Garden, key string) []byte {
				return []byte("secret: " + b64("x: "+key+"\n") + "\n")
			}})
	}
	return all
}

func lines(g *Garden, n int) []byte {
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, "%s %s %d\n", g.Text(alnum, 5+g.r.IntN(20)), g.Text(alnum, 5+g.r.IntN(40)), g.r.Uint32())
	}
	return b.Bytes()
}
