package plant

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

// The parts of a repository that hold a key without being the content of a file.
const (
	partMessage   = "commit message"
	partAuthor    = "author"
	partCommitter = "committer"
	partTag       = "tag message"
	partTagger    = "tagger"
	partName      = "file name"
	partLink      = "symbolic link"
	partLost      = "unreferenced object"
)

// bed is a repository that is being planted.
type bed struct {
	*graph
	*Garden
	d     *gitDir
	rows  []Row
	spots []map[Spot]bool
	clock int64
	base  files // of the newest commit of the trunk
}

// key draws a key for a place of the truth, and gives it with its number.
func (b *bed) key(place string) (value string, k int) {
	value = b.Key()
	return value, b.row(place, value, Sorts()[0])
}

func (b *bed) row(place, value string, s Sort) int {
	d := apikey.Digest(sha256.Sum256([]byte(value)))
	b.rows = append(b.rows, Row{Place: place, Fingerprint: d.Fingerprint(), Family: s.Family, Kind: s.Kind, Near: s.Near})
	b.spots = append(b.spots, map[Spot]bool{})
	return len(b.rows) - 1
}

// put hides a new key in a file.
func (b *bed) put(f files, path, place string) (k int) {
	value, k := b.key(place)
	f.at[path] = entry{"100644", []byte("# " + b.Text(alnum, 20) + "\nKEY=" + value + "\n" + string(lines(b.Garden, b.r.IntN(20)))), []int{k}}
	return k
}

// text puts a file without a key.
func (b *bed) text(f files, path string) {
	f.at[path] = entry{mode: "100644", data: lines(b.Garden, 3)}
}

// details are what a commit has beside a tree and parents. own are the keys in the commit itself, with their part.
type details struct {
	message, author, committer, header string
	own                                map[int]string
	at                                 int64
}

// when gives the time of the next commit. One in six lies.
func (b *bed) when() int64 {
	b.clock += 3600 + b.r.Int64N(72*3600)
	if b.r.IntN(6) == 0 {
		return 1_200_000_000 + b.r.Int64N(500_000_000)
	}
	return b.clock
}

func (b *bed) who(name string, at int64) string {
	if name == "" {
		name = "Dev <dev@acme.example>"
	}
	return name + " " + strconv.FormatInt(at, 10) + " " + []string{"+0000", "+0200", "-0730"}[b.r.IntN(3)]
}

// commit writes a commit and all that is in it.
func (b *bed) commit(f files, d details, parents ...*object) *object {
	if d.at == 0 {
		d.at = b.when()
	}
	if d.message == "" {
		d.message = "change " + strconv.Itoa(len(b.commits))
	}
	o := &object{commit: true, time: d.at, parents: parents, tree: b.mark(f), own: set{}, ever: set{}}
	text := "tree " + b.d.tree(f) + "\n"
	for _, p := range parents {
		text += "parent " + p.id + "\n"
		o.ever.join(p.ever)
	}
	text += "author " + b.who(d.author, d.at-b.r.Int64N(5000)) + "\ncommitter " + b.who(d.committer, d.at) + "\n" + d.header + "\n" + d.message + "\n"
	for k, part := range d.own {
		o.own[k] = true
		b.spots[k][Spot{Part: part}] = true
	}
	o.ever.join(o.tree)
	o.ever.join(o.own)
	o.id = b.d.object("commit", []byte(text))
	b.commits = append(b.commits, o)
	return o
}

// mark notes where the keys of a tree stand, and gives them.
func (b *bed) mark(f files) set {
	keys := set{}
	for path, e := range f.at {
		for _, k := range e.keys {
			part := ""
			if e.mode == "120000" {
				part = partLink
			}
			b.spots[k][Spot{path, part}] = true
			keys[k] = true
		}
	}
	for path, k := range f.names {
		there := false
		for name := range f.at {
			there = there || name == path || strings.HasPrefix(name, path+"/")
		}
		if there {
			b.spots[k][Spot{path, partName}] = true
			keys[k] = true
		}
	}
	return keys
}

// blob writes a blob that no tree names.
func (b *bed) blob(place string) *object {
	value, k := b.key(place)
	b.spots[k][Spot{Part: partLost}] = true
	return &object{id: b.d.object("blob", []byte("lost: "+value+"\n")), own: set{k: true}}
}

// tag writes a tag of what o is; own are the keys in it.
func (b *bed) tag(name, typ string, o *object, message, tagger string, own map[int]string) *object {
	text := fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger %s\n\n%s\n", o.id, typ, name, b.who(tagger, b.when()), message)
	t := &object{id: b.d.object("tag", []byte(text)), own: set{}, to: o}
	for k, part := range own {
		t.own[k] = true
		b.spots[k][Spot{Part: part}] = true
	}
	return t
}

// ref writes a ref.
func (b *bed) ref(name string, o *object) {
	b.refs[name] = o
	b.d.file(name, o.id+"\n")
}

// log writes the reflog of a ref: the objects that it named, one after the other, with the times.
func (b *bed) log(ref string, moves ...move) {
	var text strings.Builder
	zero := strings.Repeat("0", len(b.commits[0].id))
	for _, m := range moves {
		m.ref = ref
		old := zero
		if m.old != nil {
			old = m.old.id
		}
		fmt.Fprintf(&text, "%s %s Dev <dev@acme.example> %d +0000\tupdate\n", old, m.new.id, m.at)
		b.moves = append(b.moves, m)
	}
	b.d.file("logs/"+ref, text.String())
}

// Repository plants a git repository with a history below dir, which must exist: keys in every sort of object, ref and leftover, in merges, renames
// and reverts, in every small hiding place of Places, beside the negatives, under clocks of which some lie. It runs no git: objects are written one
// by one, and may be packed afterwards by whoever wants deltas. wide names objects by SHA-256. The truth says of each key where it stands and how
// it was exposed.
func Repository(dir string, seed uint64, wide bool) (Truth, error) {
	b := &bed{graph: &graph{refs: map[string]*object{}, head: "refs/heads/main"}, Garden: New(seed), d: newGitDir(dir, wide), clock: 1_700_000_000, base: newFiles()}
	t := Truth{Seed: seed}
	main := b.trunk()
	main = b.merges(main)
	main = b.identities(main)
	main = b.forms(main, &t)
	main = b.remotes(main)
	b.tags(main)
	b.leftovers(main)
	b.ref("refs/heads/main", main)
	for k := range b.rows {
		row := &b.rows[k]
		row.Exposure = b.exposure(k)
		row.Spots = slices.SortedFunc(maps.Keys(b.spots[k]), func(a, b Spot) int { return strings.Compare(a.Path+"\x00"+a.Part, b.Path+"\x00"+b.Part) })
	}
	t.Keys = b.rows
	return t, b.d.err
}

// forms commits every small hiding place of files, and then takes some out and brings some back.
func (b *bed) forms(main *object, t *Truth) *object {
	const small = 64 << 10
	f := b.base.clone()
	var paths []string
	for i, p := range Places() {
		path, content, row := p.Draw(b.Garden, i)
		if len(content) > small || strings.Contains(path, ".git/") {
			continue
		}
		k := len(b.rows)
		b.rows, b.spots = append(b.rows, Row{Place: row.Place, Fingerprint: row.Fingerprint, Family: row.Family, Kind: row.Kind, Near: row.Near}), append(b.spots, map[Spot]bool{})
		e := entry{mode: "100644", data: content, keys: []int{k}}
		if strings.HasPrefix(p.File, "names/KEY") {
			e.keys = nil
			name := path
			if strings.HasSuffix(path, "/a.txt") {
				name = strings.TrimSuffix(path, "/a.txt")
			}
			f.names[name] = k
		}
		f.at[path] = e
		paths = append(paths, path)
	}
	for i, n := range Negatives() {
		if content := n.Make(b.Garden); len(content) <= small {
			path := fmt.Sprintf("negatives/%03d", i)
			f.at[path] = entry{mode: "100644", data: content}
			t.Negatives = append(t.Negatives, Row{Place: n.Name, Path: path})
		}
	}
	main = b.commit(f, details{message: "add forms"}, main)
	less := f.clone()
	for i, path := range paths {
		if i%2 == 0 {
			delete(less.at, path)
		}
	}
	main = b.commit(less, details{message: "take half of them out"}, main)
	for i, path := range paths {
		if i%4 == 0 {
			less.at[path] = f.at[path]
		}
	}
	main = b.commit(less, details{message: "bring some back"}, main)
	b.base = less
	return main
}

// later gives a time some days after the last commit.
func (b *bed) later(days int) int64 { return b.clock + int64(days)*int64(24*time.Hour/time.Second) }
