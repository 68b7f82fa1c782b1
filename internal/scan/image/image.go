// Package image says of the members of a container image's archive what they are: which layer, of which image, made by which command, or the
// configuration. It reads the archives of "docker save" and those in the OCI layout, compressed by gzip or not.
//
// It searches nothing: package scan opens every layer by itself, and takes a file that a later layer deletes like any other. It reads small JSON
// documents and passes over all else, and holds a bounded number of bytes. All texts that it gives are foreign. Called by scan/run.
package image

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// Member is what a member of the archive is in its image.
type Member struct {
	// Image is the name and tag of the image, or empty.
	Image string
	// Layer counts from 1 to Layers, lowest first. It is 0 for the configuration.
	Layer, Layers int
	// Command is what made the layer, as the image's history has it, or empty.
	Command string
}

// Image is an archive whose members are known. The nil Image knows none.
type Image struct{ members map[string]Member }

// What is held and read at most.
const (
	mostMembers  = 200_000
	largestJSON  = 4 << 20
	mostJSON     = 64 << 20
	mostNesting  = 4
	mostCommands = 10_000
	mostUnpacked = 4 << 30
)

// Read reads an archive from its start. It gives nil for one that is no image, and for one that ends before its manifest.
func Read(r io.Reader) *Image {
	if s, ok := r.(io.Seeker); ok {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil
		}
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			return nil
		}
		if head == [2]byte{0x1f, 0x8b} {
			z, err := gzip.NewReader(bufio.NewReader(r))
			if err != nil {
				return nil
			}
			r = io.LimitReader(z, mostUnpacked)
		}
	}
	docs := documents(r)
	i := &Image{members: map[string]Member{}}
	i.docker(docs)
	i.index(docs, docs["index.json"], "", 0)
	if len(i.members) == 0 {
		return nil
	}
	return i
}

// Of gives what the member is that a path within the archive begins with. The path is as in scan.Match.
func (i *Image) Of(inner string) (Member, bool) {
	if i == nil {
		return Member{}, false
	}
	name, _, _ := strings.Cut(inner, "!/")
	m, ok := i.members[clean(name)]
	return m, ok
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// documents reads the small members that look like JSON, by name.
func documents(r io.Reader) map[string][]byte {
	docs := map[string][]byte{}
	t := tar.NewReader(r)
	total := 0
	for range mostMembers {
		h, err := t.Next()
		if err != nil {
			return docs
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 || h.Size > largestJSON || total+int(h.Size) > mostJSON {
			continue
		}
		in := bufio.NewReader(t)
		if first, err := in.Peek(1); err != nil || first[0] != '{' && first[0] != '[' {
			continue
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return docs
		}
		total += len(b)
		docs[clean(h.Name)] = b
	}
	return docs
}

// docker reads the manifest of "docker save".
func (i *Image) docker(docs map[string][]byte) {
	var images []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if json.Unmarshal(docs["manifest.json"], &images) != nil {
		return
	}
	for _, m := range images {
		name := ""
		if len(m.RepoTags) > 0 {
			name = m.RepoTags[0]
		}
		i.add(docs, name, m.Config, m.Layers)
	}
}

// descriptor is how OCI documents point to others.
type descriptor struct {
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
}

// member gives the name of what the descriptor points to.
func (d descriptor) member() string {
	sort, sum, _ := strings.Cut(d.Digest, ":")
	return clean(path.Join("blobs", sort, sum))
}

// index reads an index of OCI images, which may name others, or a manifest.
func (i *Image) index(docs map[string][]byte, doc []byte, name string, depth int) {
	var o struct {
		Manifests []descriptor `json:"manifests"`
		Config    descriptor   `json:"config"`
		Layers    []descriptor `json:"layers"`
	}
	if depth > mostNesting || json.Unmarshal(doc, &o) != nil {
		return
	}
	for _, d := range o.Manifests {
		called := name
		for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if v := d.Annotations[key]; v != "" && called == "" {
				called = v
			}
		}
		if next := docs[d.member()]; next != nil {
			i.index(docs, next, called, depth+1)
		}
	}
	if len(o.Layers) > 0 {
		var layers []string
		for _, l := range o.Layers {
			layers = append(layers, l.member())
		}
		i.add(docs, name, o.Config.member(), layers)
	}
}

// add takes in an image. A member that two images share belongs to the first.
func (i *Image) add(docs map[string][]byte, name, config string, layers []string) {
	set := func(member string, m Member) {
		member = clean(member)
		if _, known := i.members[member]; !known && member != "" && len(i.members) < mostMembers {
			m.Image = name
			i.members[member] = m
		}
	}
	var c struct {
		History []struct {
			CreatedBy  string `json:"created_by"`
			EmptyLayer bool   `json:"empty_layer"`
		} `json:"history"`
	}
	var commands []string
	if json.Unmarshal(docs[clean(config)], &c) == nil {
		for k, h := range c.History {
			if !h.EmptyLayer && k < mostCommands {
				commands = append(commands, h.CreatedBy)
			}
		}
		set(config, Member{Layers: len(layers)})
	}
	for k, l := range layers {
		m := Member{Layer: k + 1, Layers: len(layers)}
		if len(commands) == len(layers) {
			m.Command = strings.Join(strings.Fields(strings.TrimPrefix(commands[k], "/bin/sh -c #(nop) ")), " ")
		}
		set(l, m)
	}
}
