package plant

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// gitDir writes objects, refs and reflogs of a repository as git lays them out, without git.
type gitDir struct {
	dir  string
	hash func() hash.Hash
	err  error // the first one; later calls do nothing
	have map[string]bool
	zip  *zlib.Writer
}

// newGitDir makes an empty repository with its work tree in dir.
func newGitDir(dir string, wide bool) *gitDir {
	d := &gitDir{dir: filepath.Join(dir, ".git"), hash: sha1.New, have: map[string]bool{}, zip: zlib.NewWriter(nil)}
	config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
	if wide {
		d.hash = sha256.New
		config = strings.Replace(config, "version = 0", "version = 1", 1) + "[extensions]\n\tobjectformat = sha256\n"
	}
	config += "[remote \"origin\"]\n\turl = https://git.example/a.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
	d.file("config", config)
	d.file("HEAD", "ref: refs/heads/main\n")
	for _, sub := range []string{"objects/pack", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); d.err == nil {
			d.err = err
		}
	}
	return d
}

func (d *gitDir) file(name, text string) {
	if d.err != nil {
		return
	}
	path := filepath.Join(d.dir, filepath.FromSlash(name))
	if d.err = os.MkdirAll(filepath.Dir(path), 0o700); d.err == nil {
		d.err = os.WriteFile(path, []byte(text), 0o600)
	}
}

// object writes a loose object and gives its name.
func (d *gitDir) object(typ string, data []byte) string {
	h := d.hash()
	head := fmt.Sprintf("%s %d\x00", typ, len(data))
	h.Write([]byte(head))
	h.Write(data)
	name := hex.EncodeToString(h.Sum(nil))
	if d.have[name] {
		return name
	}
	d.have[name] = true
	var b bytes.Buffer
	d.zip.Reset(&b)
	_, err := d.zip.Write(append([]byte(head), data...))
	must(err)
	must(d.zip.Close())
	d.file("objects/"+name[:2]+"/"+name[2:], b.String())
	return name
}

// entry is a file of a tree, with the keys that were put into its content, by number.
type entry struct {
	mode string
	data []byte
	keys []int
}

// files is the content of a tree, by path. Keys of paths that stand in the path itself are in names.
type files struct {
	at    map[string]entry
	names map[string]int
}

func (f files) clone() files { return files{maps.Clone(f.at), maps.Clone(f.names)} }

func newFiles() files { return files{map[string]entry{}, map[string]int{}} }

// tree writes the trees and blobs of f and gives the name of the uppermost.
func (d *gitDir) tree(f files) string {
	type item struct{ sort, name, mode, object string }
	var items []item
	below := map[string]files{}
	for path, e := range f.at {
		if dir, rest, ok := strings.Cut(path, "/"); ok {
			if below[dir].at == nil {
				below[dir] = newFiles()
			}
			below[dir].at[rest] = e
			continue
		}
		items = append(items, item{path, path, e.mode, d.object("blob", e.data)})
	}
	for dir, sub := range below {
		items = append(items, item{dir + "/", dir, "40000", d.tree(sub)})
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.sort, b.sort) })
	var b bytes.Buffer
	for _, i := range items {
		raw, err := hex.DecodeString(i.object)
		must(err)
		fmt.Fprintf(&b, "%s %s\x00%s", i.mode, i.name, raw)
	}
	return d.object("tree", b.Bytes())
}
