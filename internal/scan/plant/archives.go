package plant

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// must ends a test that cannot even write to memory.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("plant: write to memory: %v", err))
	}
}

// Gzip compresses b.
func Gzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

func gzipNamed(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Name, w.ModTime = "dump.sql", time.Unix(1_700_000_000, 0)
	_, err := w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

func gzipTimed(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.ModTime = time.Unix(1_712_345_678, 0)
	_, err := w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

func xzOf(b []byte) []byte {
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	must(err)
	_, err = w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

func zstdOf(b []byte) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	must(err)
	_, err = w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

// file is a member of an archive.
type file struct {
	name string
	data []byte
}

// Tar packs files.
func tarOf(files ...file) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		must(w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.data)), Typeflag: tar.TypeReg}))
		_, err := w.Write(f.data)
		must(err)
	}
	must(w.Close())
	return out.Bytes()
}

func zipOf(method uint16, files ...file) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range files {
		m, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: method})
		must(err)
		_, err = m.Write(f.data)
		must(err)
	}
	must(w.Close())
	return out.Bytes()
}

// zipRaw packs a file with its sizes in front of it, as most other programs do.
func zipRaw(method uint16, f file, packed []byte) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	m, err := w.CreateRaw(&zip.FileHeader{Name: f.name, Method: method, CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(len(f.data))})
	must(err)
	_, err = m.Write(packed)
	must(err)
	must(w.Close())
	return out.Bytes()
}

func archivePlaces() []Place {
	text := func(g *Garden, key string) []byte {
		return bytes.Join([][]byte{lines(g, 50), []byte("key: " + key + "\n"), lines(g, 50)}, nil)
	}
	p := func(name string, f func(g *Garden, key string) []byte) Place { return Place{Name: name, Make: f} }
	wrapIn := func(name string, f func([]byte) []byte) Place {
		return p(name, func(g *Garden, key string) []byte { return f(text(g, key)) })
	}
	config := func(b []byte) file { return file{"etc/config.yaml", b} }
	other := file{"etc/other", []byte("nothing\n")}
	return []Place{
		wrapIn("gzip", Gzip), wrapIn("gzip with a name", gzipNamed), wrapIn("xz", xzOf), wrapIn("zstd", zstdOf),
		wrapIn("gzip of two parts", func(b []byte) []byte { return append(Gzip([]byte("first\n")), Gzip(b)...) }),
		wrapIn("tar", func(b []byte) []byte { return tarOf(other, config(b)) }),
		wrapIn("tar.gz", func(b []byte) []byte { return Gzip(tarOf(other, config(b), other)) }),
		wrapIn("tar.xz", func(b []byte) []byte { return xzOf(tarOf(config(b))) }),
		wrapIn("tar.zst", func(b []byte) []byte { return zstdOf(tarOf(config(b))) }),
		wrapIn("zip deflated", func(b []byte) []byte { return zipOf(zip.Deflate, other, config(b)) }),
		wrapIn("zip stored", func(b []byte) []byte { return zipRaw(zip.Store, config(b), b) }),
		wrapIn("zip stored with a descriptor", func(b []byte) []byte { return zipOf(zip.Store, config(b)) }),
		wrapIn("zip with zstd", func(b []byte) []byte { return zipRaw(93, config(b), zstdOf(b)) }),
		wrapIn("zip with xz", func(b []byte) []byte { return zipRaw(95, config(b), xzOf(b)) }),
		wrapIn("jar in a zip", func(b []byte) []byte {
			return zipOf(zip.Deflate, other, file{"lib/a.jar", zipOf(zip.Deflate, config(b))}, other)
		}),
		wrapIn("document", func(b []byte) []byte {
			return zipOf(zip.Deflate, file{"[Content_Types].xml", []byte("<Types/>")}, file{"word/document.xml", []byte("<w:t>" + string(b) + "</w:t>")})
		}),
		wrapIn("wheel", func(b []byte) []byte {
			return zipOf(zip.Deflate, file{"a/__init__.py", b}, file{"a-1.dist-info/METADATA", []byte("Name: a\n")})
		}),
		wrapIn("five archives deep", func(b []byte) []byte {
			return Gzip(tarOf(file{"a.zip", zipOf(zip.Deflate, file{"b.tar.xz", xzOf(tarOf(file{"c.jar", zipOf(zip.Deflate, file{"d.tar.zst", zstdOf(tarOf(config(b)))})}))})}))
		}),
		p("base64 in a jar", func(_ *Garden, key string) []byte {
			return zipOf(zip.Deflate, file{"a.properties", []byte("k=" + b64("v:"+key) + "\n")})
		}),
		p("UTF-16 in a zip", func(_ *Garden, key string) []byte { return zipOf(zip.Deflate, file{"a.reg", wide(key, leOrder, true)}) }),
		p("name in a tar", func(_ *Garden, key string) []byte { return tarOf(file{"backup/" + key + ".bak", []byte("x")}) }),
		p("name in a zip", func(_ *Garden, key string) []byte {
			return zipOf(zip.Deflate, file{"backup/" + key + ".bak", []byte("x")})
		}),
		p("zip comment", func(_ *Garden, key string) []byte {
			var out bytes.Buffer
			w := zip.NewWriter(&out)
			must(w.SetComment("made with " + key))
			must(w.Close())
			return out.Bytes()
		}),
		p("behind a tar", func(_ *Garden, key string) []byte { return append(tarOf(other), key...) }),
		p("behind a gzip", func(_ *Garden, key string) []byte { return append(Gzip([]byte("text")), key...) }),
		p("Helm release", func(g *Garden, key string) []byte {
			release, _ := json.Marshal(map[string]any{"name": "a", "manifest": string(lines(g, 200)), "config": map[string]string{"apiKey": key}})
			inner := base64.StdEncoding.EncodeToString(Gzip(release))
			return []byte("apiVersion: v1\ndata:\n  release: " + b64(inner) + "\nkind: Secret\n")
		}),
		p("gzip in base64", func(g *Garden, key string) []byte {
			return []byte("user_data = \"" + b64(string(Gzip(text(g, key)))) + "\"")
		}),
		p("gzip in base64, wrapped", func(g *Garden, key string) []byte {
			return []byte("d: |\n  " + wrap(b64(string(gzipNamed(text(g, key)))), 76, "\n  ") + "\n")
		}),
		p("gzip in base64 at every time", func(g *Garden, key string) []byte { return []byte("x='" + b64(string(gzipTimed(text(g, key)))) + "'") }),
		p("zip in base64", func(g *Garden, key string) []byte {
			return []byte("{\"zip\":\"" + b64(string(zipOf(zip.Deflate, config(text(g, key))))) + "\"}")
		}),
		p("zstd in base64", func(g *Garden, key string) []byte {
			return []byte("{\"z\":\"" + b64(string(zstdOf(text(g, key)))) + "\"}")
		}),
		p("xz in base64", func(g *Garden, key string) []byte {
			return []byte("{\"z\":\"" + b64(string(xzOf(text(g, key)))) + "\"}")
		}),
		p("tar.gz in base64 across windows", func(g *Garden, key string) []byte {
			return []byte("d: " + b64(string(Gzip(tarOf(file{"noise", g.Noise(2 << 20)}, config(text(g, key)))))) + "\n")
		}),
		p("OCI image", func(g *Garden, key string) []byte { return ociImage(file{"app/.env", text(g, key)}) }),
		p("docker save", func(g *Garden, key string) []byte { return dockerSave(file{"root/.env", text(g, key)}) }),
		p("image history", func(_ *Garden, key string) []byte {
			return tarOf(file{"c.json", []byte(`{"history":[{"created_by":"ENV ANTHROPIC_API_KEY=` + key + `"}]}`)}, file{"manifest.json", []byte("[]")})
		}),
	}
}

// ociImage gives an image in the OCI layout with one compressed layer.
func ociImage(f file) []byte {
	layer := Gzip(tarOf(file{"bin/sh", []byte("\x7fELF")}, f))
	d := sha256.Sum256(layer)
	name := "blobs/sha256/" + hex.EncodeToString(d[:])
	return tarOf(file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, file{"index.json", []byte(`{"schemaVersion":2,"manifests":[]}`)}, file{name, layer})
}

// dockerSave gives an image as an archive with a plain layer.
func dockerSave(f file) []byte {
	id := strings.Repeat("ab", 32)
	return tarOf(file{id + "/layer.tar", tarOf(f)}, file{"manifest.json", []byte(`[{"Config":"c.json","Layers":["` + id + `/layer.tar"]}]`)})
}
