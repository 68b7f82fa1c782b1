package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// archive makes a tar file of names and contents in turn.
func archive(t *testing.T, members ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(members); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: members[i], Mode: 0o644, Size: int64(len(members[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(members[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func blob(content string) (digest, name string) {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:]), "blobs/sha256/" + hex.EncodeToString(sum[:])
}

const history = `{"history":[{"created_by":"/bin/sh -c #(nop) COPY  a /a"},{"created_by":"ENV A=1","empty_layer":true},{"created_by":"RUN rm /a"}]}`

func oci(t *testing.T) (file []byte, one, two, config string) {
	t.Helper()
	d1, one := blob("layer one")
	d2, two := blob("layer two")
	dc, config := blob(history)
	manifest := fmt.Sprintf(`{"config":{"digest":%q},"layers":[{"digest":%q},{"digest":%q}]}`, dc, d1, d2)
	dm, nameM := blob(manifest)
	nested := fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, dm)
	dn, nameN := blob(nested)
	index := fmt.Sprintf(`{"manifests":[{"digest":%q,"annotations":{"io.containerd.image.name":"acme/app:1"}},{"digest":"sha256:missing"},{"digest":""}]}`, dn)
	return archive(t, one, "layer one", two, "layer two", config, history, nameM, manifest, nameN, nested, "oci-layout", `{"imageLayoutVersion":"1.0.0"}`, "index.json", index), one, two, config
}

func TestLayersAreNamed(t *testing.T) {
	file, one, two, config := oci(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(file)
	_ = z.Close()
	saved := archive(t, "abc/layer.tar", "x", "def/layer.tar", "y", "cfg.json", history, "manifest.json",
		`[{"Config":"cfg.json","RepoTags":["acme/app:1"],"Layers":["abc/layer.tar","def/layer.tar"]},{"Config":"other.json","Layers":["abc/layer.tar"]}]`)
	for name, c := range map[string]struct {
		file []byte
		want [3]string
	}{
		"oci": {file, [3]string{one, two, config}}, "oci, gzip": {packed.Bytes(), [3]string{one, two, config}},
		"docker save": {saved, [3]string{"abc/layer.tar", "def/layer.tar", "cfg.json"}},
	} {
		i := Read(bytes.NewReader(c.file))
		for k, want := range []Member{
			{Image: "acme/app:1", Layer: 1, Layers: 2, Command: "COPY a /a"}, {Image: "acme/app:1", Layer: 2, Layers: 2, Command: "RUN rm /a"}, {Image: "acme/app:1", Layers: 2},
		} {
			if got, ok := i.Of("./" + c.want[k] + "!/app/.env"); !ok || got != want {
				t.Errorf("%s: %+v, %v, want %+v", name, got, ok, want)
			}
		}
		if got, ok := i.Of("other"); ok {
			t.Errorf("%s: an unknown member is %+v", name, got)
		}
	}
}

func TestWhatIsNoImageIsNone(t *testing.T) {
	file, _, _, _ := oci(t)
	self, name := blob("{}")
	for what, b := range map[string][]byte{
		"nothing": nil, "text": []byte(strings.Repeat("text ", 200)), "gzip that ends": {0x1f, 0x8b, 8, 0}, "a tar file": archive(t, "a", "b"),
		"cut": file[:1024], "not JSON": archive(t, "manifest.json", "[{]", "index.json", "{"), "of another form": archive(t, "manifest.json", `[{"Layers":7}]`, "index.json", `{"manifests":{}}`),
		"without members": archive(t, "index.json", fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, self), name, "{}"),
	} {
		if i := Read(bytes.NewReader(b)); i != nil {
			t.Errorf("%s: %+v", what, i)
		}
	}
	if _, ok := (*Image)(nil).Of("a"); ok {
		t.Error("the nil image knows a member")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`[{"Config":"c","Layers":["a","b"]}]`), []byte(history))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:00"}],"layers":[{"digest":"a:b"}]}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		if !json.Valid(manifest) {
			return
		}
		i := Read(bytes.NewReader(archive(t, "manifest.json", string(manifest), "index.json", string(manifest), "c", string(config), "blobs/sha256/00", string(manifest))))
		if i == nil {
			return
		}
		for name, m := range i.members {
			if strings.HasPrefix(name, "/") || strings.Contains(name, "..") && strings.HasPrefix(name, "..") || m.Layer > m.Layers || m.Layer < 0 {
				t.Errorf("%q is %+v", name, m)
			}
		}
	})
}
