package run_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/baseline"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/run"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// fresh makes a key that no grade takes for a placeholder.
func fresh() (string, secret.Value) {
	body := rand.Text() + strings.ToLower(rand.Text()) + rand.Text() + strings.ToLower(rand.Text())
	s := strings.Join([]string{"sk", "ant", "api03", body[:86], rand.Text()[:6] + "AA"}, "-")
	return s, secret.New([]byte(s))
}

func idOf(v secret.Value) scan.ID { return scan.ID(v.Fingerprint()) }

type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T) repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("git is missing")
		}
		t.Skip("git is missing")
	}
	r := repo{t, t.TempDir()}
	r.git("init", "-q", "-b", "main")
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@b.example", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@b.example"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repo) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r repo) commit(message string) string {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("rev-parse", "HEAD")
}

func do(t *testing.T, o run.Options) *report.Report {
	t.Helper()
	r, err := run.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func key(t *testing.T, r *report.Report, v secret.Value) *report.Key {
	t.Helper()
	for i := range r.Keys {
		if r.Keys[i].Fingerprint == idOf(v) {
			return &r.Keys[i]
		}
	}
	t.Fatalf("%s is not in the report of %d keys", idOf(v), len(r.Keys))
	return nil
}

func paths(k *report.Key) []string {
	var all []string
	for _, p := range k.Places {
		all = append(all, strings.TrimSpace(p.Source+" "+p.Path.String()+" "+p.Part))
	}
	return all
}

func TestFilesAndHistoryInOneReport(t *testing.T) {
	r := newRepo(t)
	still, stillV := fresh()
	gone, goneV := fresh()
	said, saidV := fresh()
	hidden, hiddenV := fresh()
	placeholder := ""
	secrettest.Fake(t).Reveal(func(b []byte) { placeholder = string(b) })
	r.write("config/dev.yaml", "a: 1\nkey: "+still+"\n")
	r.write("README.md", "use "+placeholder+"\n")
	first := r.commit("one")
	r.write("old.env", "K="+gone+"\n")
	r.write("config/dev.yaml", "a: 1\nb: 2\nkey: "+still+"\n")
	second := r.commit("two")
	r.git("rm", "-q", "old.env")
	third := r.commit("three " + said)
	r.write(".gitignore", "secret\n")
	r.write("secret", base64.StdEncoding.EncodeToString([]byte("x"+hidden+"y")))

	got := do(t, run.Options{Paths: []string{r.dir}, Workers: 2, Version: "devel"})
	if len(got.Keys) != 4 || !got.Complete || !got.Found() || got.Counts.Placeholders == 0 || got.Scanned.Repositories != 1 || got.Scanned.Objects == 0 || got.Scanned.Files == 0 {
		t.Errorf("%d keys, complete %v, %+v, %+v, gaps %+v", len(got.Keys), got.Complete, got.Counts, got.Scanned, got.Gaps)
	}
	k := key(t, got, stillV)
	if p := paths(k); len(p) != 2 || p[0] != "file "+filepath.Join(r.dir, "config/dev.yaml") || k.Places[0].Line != 3 || p[1] != "history "+filepath.Join(r.dir, "config/dev.yaml") || k.Places[1].Line != 2 {
		t.Errorf("%q %+v", p, k.Places)
	}
	if e := k.Exposure[0]; e.First.ID != first || !e.InHead || e.Pushed != "never" || e.First.Author.String() != "Ada <ada@b.example>" {
		t.Errorf("%+v", e)
	}
	k = key(t, got, goneV)
	if e := k.Exposure[0]; e.First.ID != second || len(e.Removed) != 1 || e.Removed[0].ID != third || e.InHead || len(paths(k)) != 1 {
		t.Errorf("%+v %q", e, paths(k))
	}
	key(t, got, saidV)
	if k = key(t, got, hiddenV); len(k.Places) != 1 || k.Places[0].Form == "" {
		t.Errorf("%+v", k.Places)
	}
	leaks(t, got, stillV, goneV, saidV, hiddenV)

	if got := do(t, run.Options{Paths: []string{r.dir}, History: run.NoHistory}); len(got.Keys) != 2 && len(got.Keys) != 3 || got.Scanned.Objects != 0 {
		t.Errorf("without history %d keys", len(got.Keys))
	}
	if got := do(t, run.Options{Paths: []string{r.dir}, History: run.OnlyHistory}); len(got.Keys) != 3 || got.Scanned.Files != 0 {
		t.Errorf("history alone: %d keys", len(got.Keys))
	}
	if got := do(t, run.Options{Paths: []string{r.dir}, History: run.NoHistory, RespectGitignore: true}); slices.ContainsFunc(got.Keys, func(k report.Key) bool { return k.Fingerprint == idOf(hiddenV) }) {
		t.Error("an ignored file was searched")
	}
}

// leaks looks for values in every rendering.
func leaks(t *testing.T, r *report.Report, values ...secret.Value) {
	t.Helper()
	for name, write := range map[string]func(io.Writer) error{
		"table": func(w io.Writer) error { return r.Table(w, report.TableOptions{All: true}) }, "json": r.JSON, "jsonl": func(w io.Writer) error { return report.NewStream(w).End(r) },
		"sarif": r.SARIF, "github": r.Annotations, "markdown": r.Markdown, "html": r.HTML,
		"story": func(w io.Writer) error {
			for i := range r.Keys {
				if err := r.Story(w, &r.Keys[i], report.TableOptions{}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if b.Len() == 0 {
			t.Errorf("%s is empty", name)
		}
		secrettest.NoLeak(t, name, b.Bytes(), values...)
	}
}

func TestKeysInNamesAuthorsAndRefsAreMasked(t *testing.T) {
	r := newRepo(t)
	name, nameV := fresh()
	author, authorV := fresh()
	ref, refV := fresh()
	link, linkV := fresh()
	r.write("dir-"+name+"/file", "x")
	if err := os.Symlink("/nowhere/"+link, filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "subject "+author, "--author", author+" <a@b>")
	r.git("branch", "b-"+ref)
	got := do(t, run.Options{Paths: []string{r.dir}})
	for _, v := range []secret.Value{nameV, authorV, linkV} {
		key(t, got, v)
	}
	leaks(t, got, nameV, authorV, refV, linkV)
}

func TestStdin(t *testing.T) {
	text, v := fresh()
	got := do(t, run.Options{Paths: []string{"-"}, Stdin: strings.NewReader("a\nb " + text + "\n")})
	if k := key(t, got, v); k.Places[0].Source != "stdin" || k.Places[0].Line != 2 || got.Scanned.Bytes != int64(len(text)+5) {
		t.Errorf("%+v %+v", k.Places, got.Scanned)
	}
	leaks(t, got, v)
}

func TestVerdicts(t *testing.T) {
	sim := simulator.New(simulator.Options{})
	srv := httptest.NewServer(sim.Handler())
	defer srv.Close()
	dir := t.TempDir()
	id, value, err := sim.CreateKey(simulator.CreateKey{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	never, neverV := fresh()
	v := secret.New([]byte(value))
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(value+"\n"+never+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &baseline.Baseline{}
	if err := b.Add(baseline.Entry{ID: idOf(v), Author: "me", Reason: "known"}); err != nil {
		t.Fatal(err)
	}
	o := run.Options{Paths: []string{dir}, Verify: []string{"anthropic"}, VerifyURLs: map[string]string{"anthropic": srv.URL}, Baseline: b, Hint: true}
	got := do(t, o)
	if k := key(t, got, v); k.Verdict == nil || k.Verdict.State != report.Live || k.Ignored == nil || !k.Counts() {
		t.Errorf("a live key that is ignored: %+v", k)
	}
	if k := key(t, got, neverV); k.Verdict == nil || k.Verdict.State != report.Dead || k.Hint != never[:13]+"…"+never[len(never)-4:] {
		t.Errorf("%+v", k)
	}
	if err := sim.SetStatus(id, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	got = do(t, o)
	if k := key(t, got, v); k.Verdict.State != report.Dead || k.Counts() {
		t.Errorf("a retired key that is ignored: %+v", k)
	}
	leaks(t, got, v, neverV)
	if n := len(sim.Requests()); n != 4 {
		t.Errorf("%d requests", n)
	}
	o.Hook, o.Input = run.PreReceive, strings.NewReader("")
	if _, err := run.Run(t.Context(), o); !fault.Is(err, fault.Invalid) {
		t.Errorf("pre-receive verifies: %v", err)
	}
}

func TestIgnores(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	a, aV := fresh()
	m, mV := fresh()
	half, halfV := fresh()
	old, oldV := fresh()
	mark := "keywright" + ":allow"
	text := fmt.Sprintf("%s\n%s # %s\n%s # %s\n%s\n%s\n", a, m, mark, half, mark, half, old)
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &baseline.Baseline{}
	for _, e := range []baseline.Entry{{ID: idOf(aV), Author: "me", Reason: "known"}, {ID: idOf(oldV), Author: "me", Reason: "known", Expires: now.AddDate(0, 0, -2)}} {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	got := do(t, run.Options{Paths: []string{dir}, Baseline: b, Now: func() time.Time { return now }})
	if key(t, got, aV).Ignored == nil || key(t, got, mV).Ignored == nil || key(t, got, halfV).Ignored != nil || key(t, got, oldV).Ignored != nil {
		t.Errorf("%+v", got.Keys)
	}
	if got.Counts.Ignored != 2 || got.Counts.Keys != 2 || got.Counts.AllowMarks != 2 || got.Counts.AllowMarksRefused != 0 || len(got.Notes) != 1 {
		t.Errorf("%+v %q", got.Counts, got.Notes)
	}
	got = do(t, run.Options{Paths: []string{dir}, Distrusted: b, IgnoreMarks: true, Now: func() time.Time { return now }})
	if got.Counts.Ignored != 0 || got.Counts.Keys != 4 || got.Counts.AllowMarks != 2 || got.Counts.AllowMarksRefused != 2 || got.Counts.BaselineRefused != 2 {
		t.Errorf("%+v", got.Counts)
	}
}

type stock map[apikey.Digest]report.Known

func (s stock) Shapes() []scan.Shape                           { return nil }
func (s stock) Holds(d apikey.Digest) bool                     { _, ok := s[d]; return ok }
func (s stock) Find(d apikey.Digest) (k report.Known, ok bool) { k, ok = s[d]; return k, ok }

func TestInventory(t *testing.T) {
	dir := t.TempDir()
	text, v := fresh()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := do(t, run.Options{Paths: []string{dir}, Inventory: stock{v.Digest(): {Key: "prod-primary", Version: "v_1", State: apikey.Current}}})
	if k := key(t, got, v); k.Known == nil || k.Known.Key != "prod-primary" || !strings.Contains(k.Next()[0], "keywright emergency prod-primary") {
		t.Errorf("%+v", k)
	}
}

// packed makes a tar file of names and contents in turn.
func packed(t *testing.T, members ...string) string {
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
	return b.String()
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestImagesAreSearchedLayerByLayer: a file that a later layer deletes, an argument of a command in the history, and one in the environment.
func TestImagesAreSearchedLayerByLayer(t *testing.T) {
	dir := t.TempDir()
	fileText, fileV := fresh()
	argText, argV := fresh()
	envText, envV := fresh()
	blobs := map[string]string{}
	blob := func(content string) string {
		sum := sha256.Sum256([]byte(content))
		blobs["blobs/sha256/"+hex.EncodeToString(sum[:])] = content
		return fmt.Sprintf(`{"digest":"sha256:%x"}`, sum)
	}
	below := blob(gzipped(t, packed(t, "app/.env", "A="+fileText+"\n")))
	above := blob(packed(t, "app/.wh..env", ""))
	config := blob(`{"config":{"Env":["KEY=` + envText + `"]},"history":[{"created_by":"COPY .env /app # buildkit"},{"created_by":"ENV KEY","empty_layer":true},{"created_by":"RUN |1 KEY=` + argText + ` rm /app/.env"}]}`)
	manifest := blob(`{"config":` + config + `,"layers":[` + below + `,` + above + `]}`)
	members := []string{"oci-layout", "{}", "index.json", `{"manifests":[` + strings.Replace(manifest, "}", `,"annotations":{"org.opencontainers.image.ref.name":"acme/app:1"}}`, 1) + `]}`}
	for name, content := range blobs {
		members = append(members, name, content)
	}
	if err := os.WriteFile(filepath.Join(dir, "image.tar"), []byte(packed(t, members...)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "image.tgz"), []byte(gzipped(t, packed(t, members...))), 0o600); err != nil {
		t.Fatal(err)
	}
	got := do(t, run.Options{Paths: []string{dir}})
	want := map[string]report.Layer{}
	for _, v := range []secret.Value{fileV, argV, envV} {
		k := key(t, got, v)
		if len(k.Places) != 2 {
			t.Fatalf("%+v", k.Places)
		}
		for _, p := range k.Places {
			if p.Layer == nil || p.Layer.Image.String() != "acme/app:1" || p.Layer.Of != 2 {
				t.Fatalf("%+v", p)
			}
			want[string(k.Fingerprint)] = *p.Layer
		}
	}
	if l := want[string(idOf(fileV))]; l.Number != 1 || l.Command.String() != "COPY .env /app # buildkit" {
		t.Errorf("%+v", l)
	}
	if argL, envL := want[string(idOf(argV))], want[string(idOf(envV))]; argL.Number != 0 || envL.Number != 0 {
		t.Errorf("%+v %+v", argL, envL)
	}
	if detail := key(t, got, fileV).Places[0].Detail(); !strings.HasPrefix(detail, "layer 1 of 2 of acme/app:1, made by COPY .env /app") {
		t.Error(detail)
	}
	if !got.Complete {
		t.Errorf("%+v", got.Gaps)
	}
	leaks(t, got, fileV)
	leaks(t, got, argV)
}

// locked makes a zip file with one encrypted member.
func locked(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	m, err := w.CreateRaw(&zip.FileHeader{Name: "a.txt", Flags: 1, Method: zip.Store, CompressedSize64: 12, UncompressedSize64: 12})
	if err == nil {
		_, err = m.Write([]byte("0123456789ab"))
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatCannotBeLookedIntoIsSaidApart(t *testing.T) {
	r := newRepo(t)
	r.write("locked.zip", locked(t))
	whole := gzipped(t, strings.Repeat("text ", 50_000))
	r.write("damaged.gz", whole[:len(whole)/2])
	bomb := gzipped(t, strings.Repeat("\x00", 20<<20))
	r.write("bomb.gz", bomb)
	reasons := func(gaps []report.Gap) (all []string) {
		for _, g := range gaps {
			all = append(all, filepath.Base(g.Path.String())+" "+g.Reason)
		}
		return all
	}
	want := []string{"bomb.gz " + scan.ReasonRatio, "damaged.gz " + scan.ReasonDamaged, "locked.zip " + scan.ReasonEncrypted}
	got := do(t, run.Options{Paths: []string{r.dir}})
	if !got.Complete || len(got.Gaps) != 0 || !slices.Equal(reasons(got.Unopened), want) || !strings.Contains(got.Summary(), "3 parts not looked into · complete") {
		t.Errorf("%+v %+v %s", got.Gaps, got.Unopened, got.Summary())
	}
	got = do(t, run.Options{Paths: []string{r.dir}, Strict: true})
	if got.Complete || !slices.Equal(reasons(got.Gaps), want) || len(got.Unopened) != 0 {
		t.Errorf("strict: %+v %+v", got.Gaps, got.Unopened)
	}
	// Who writes what a hook looks at chooses what exceeds a limit.
	r.git("add", "-A")
	got = do(t, run.Options{Paths: []string{r.dir}, Hook: run.Staged})
	if got.Complete || !slices.Equal(reasons(got.Gaps), want[:1]) || !slices.Equal(reasons(got.Unopened), want[1:]) {
		t.Errorf("staged: %+v %+v", got.Gaps, got.Unopened)
	}
	// History, also from what is remembered.
	r.commit("one")
	kept := memory{}
	for range 2 {
		got = do(t, run.Options{Paths: []string{r.dir}, History: run.OnlyHistory, States: kept, Detectors: "v1"})
		if !got.Complete || len(got.Unopened) != 3 {
			t.Errorf("history: %+v %+v", got.Gaps, got.Unopened)
		}
	}
}

func TestAnUnknownFormatOfObjectsIsNamed(t *testing.T) {
	r := newRepo(t)
	text, _ := fresh()
	r.write("a", text)
	r.commit("one")
	r.git("config", "extensions.objectformat", "sha3")
	got := do(t, run.Options{Paths: []string{r.dir}, History: run.OnlyHistory})
	if got.Complete || len(got.Gaps) != 1 || got.Gaps[0].Reason != "its objects have a format that is not known" {
		t.Errorf("%+v", got.Gaps)
	}
}

func TestAPackOfAnyNameIsRead(t *testing.T) {
	r := newRepo(t)
	text, v := fresh()
	r.write("a", text)
	r.commit("one")
	r.git("repack", "-adq")
	files, err := filepath.Glob(filepath.Join(r.dir, ".git", "objects", "pack", "pack-*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Rename(f, filepath.Join(filepath.Dir(f), "other"+filepath.Ext(f))); err != nil {
			t.Fatal(err)
		}
	}
	if r.git("cat-file", "-t", "HEAD") != "commit" {
		t.Fatal("git does not read it")
	}
	if got := do(t, run.Options{Paths: []string{r.dir}, History: run.OnlyHistory}); !got.Complete || len(key(t, got, v).Exposure) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestStagedKeysAreFound(t *testing.T) {
	r := newRepo(t)
	text, v := fresh()
	r.write("a", text)
	r.git("add", "a")
	r.write("a", "clean")
	got := do(t, run.Options{Paths: []string{r.dir}, Hook: run.Staged})
	if k := key(t, got, v); paths(k)[0] != "staged a" || !got.Complete {
		t.Errorf("%+v", k)
	}
	leaks(t, got, v)
}

func TestWhatIsMissingMakesTheReportIncomplete(t *testing.T) {
	r := newRepo(t)
	text, v := fresh()
	r.write("a", "some text")
	r.write("b", text)
	r.commit("one")
	name := r.git("rev-parse", "HEAD:a")
	if err := os.Remove(filepath.Join(r.dir, ".git", "objects", name[:2], name[2:])); err != nil {
		t.Fatal(err)
	}
	got := do(t, run.Options{Paths: []string{r.dir}})
	key(t, got, v)
	if got.Complete || len(got.Gaps) != 1 || got.Gaps[0].Object != name {
		t.Errorf("complete %v, %+v", got.Complete, got.Gaps)
	}
}

func TestSeveralRepositoriesAndNestedOnes(t *testing.T) {
	parent := t.TempDir()
	text, v := fresh()
	for _, name := range []string{"one", "two/deep"} {
		r := newRepo(t)
		r.write("leak", text)
		r.commit("leak")
		r.git("rm", "-q", "leak")
		r.commit("gone")
		if err := os.MkdirAll(filepath.Dir(filepath.Join(parent, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(r.dir, filepath.Join(parent, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []run.History{run.WithHistory, run.OnlyHistory} {
		got := do(t, run.Options{Paths: []string{parent, parent}, History: h})
		k := key(t, got, v)
		if p := paths(k); got.Scanned.Repositories != 2 || len(k.Exposure) != 2 || len(p) != 2 || p[1] != "history "+filepath.Join(parent, "two/deep/leak") || k.Exposure[0].Repository.IsZero() {
			t.Errorf("%d repositories, %d exposures, %q", got.Scanned.Repositories, len(k.Exposure), p)
		}
	}
}

func TestAnIdleStdinDoesNotHoldUpTheEnd(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = w.Write([]byte("some text"))
		cancel()
	}()
	if _, err := run.Run(ctx, run.Options{Paths: []string{"-"}, Stdin: r}); !fault.Is(err, fault.Canceled) {
		t.Error(err)
	}
}

type memory map[string][]byte

func (m memory) Load(repo string) []byte { return m[repo] }
func (m memory) Save(repo string, b []byte) error {
	m[repo] = b
	return nil
}

func TestTheNextScanReadsWhatIsNew(t *testing.T) {
	r := newRepo(t)
	old, oldV := fresh()
	later, laterV := fresh()
	r.write("a", "x\n"+old)
	r.commit("one")
	m := memory{}
	o := run.Options{Paths: []string{r.dir}, History: run.OnlyHistory, States: m, Detectors: "d1", StoreKey: secret.New([]byte("0123456789abcdef0123456789abcdef"))}
	same := func(a, b *report.Report) {
		t.Helper()
		var x, y bytes.Buffer
		a.Started, b.Started, a.Seconds, b.Seconds = time.Time{}, time.Time{}, 0, 0
		if err := errors.Join(a.JSON(&x), b.JSON(&y)); err != nil {
			t.Fatal(err)
		}
		// The time that an exposure goes on for grows.
		cut := regexp.MustCompile(`"days": [^,}\n]+`)
		if cx, cy := cut.ReplaceAllString(x.String(), ""), cut.ReplaceAllString(y.String(), ""); cx != cy {
			t.Errorf("the reports differ:\n%s\n%s", cx, cy)
		}
	}
	first := do(t, o)
	if len(m) != 1 {
		t.Fatalf("%d states were kept", len(m))
	}
	same(first, do(t, o))
	r.git("rm", "-q", "a")
	r.write("b", later)
	gone := r.commit("two")
	got := do(t, o)
	if k := key(t, got, oldV); k.Exposure[0].InHead || k.Exposure[0].Removed[0].ID != gone {
		t.Errorf("%+v", k.Exposure)
	}
	key(t, got, laterV)
	fresh := o
	fresh.States = nil
	same(got, do(t, fresh))
	for _, b := range m {
		secrettest.NoLeak(t, "state", b, oldV, laterV)
	}

	// Keys in the names of files and directories are hidden in the state, which is kept all the same.
	named, namedV := newNamed(t, r)
	fresh = o
	fresh.States = nil
	want := do(t, fresh)
	m2 := memory{}
	o.States = m2
	same(do(t, o), want)
	for range 2 {
		got = do(t, o)
		same(got, want)
	}
	if k := key(t, got, namedV); len(m2) != 1 || !slices.Contains(paths(k), "history "+filepath.Join(r.dir, "in-["+named+"]", "b")) {
		t.Errorf("%d states, %q", len(m2), paths(key(t, got, namedV)))
	}
	for _, b := range m2 {
		secrettest.NoLeak(t, "state", b, oldV, laterV, namedV)
		if !bytes.Contains(b, []byte(named)) {
			t.Error("the state lost a path")
		}
	}
	r.git("mv", "in-"+readName(t, r), "moved")
	r.commit("four")
	got = do(t, o)
	same(got, do(t, fresh))
}

// readName gives what follows "in-" in the name of the directory that newNamed made.
func readName(t *testing.T, r repo) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(r.dir, "in-*"))
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return strings.TrimPrefix(filepath.Base(all[0]), "in-")
}

// newNamed commits a file with a key in its name and in its content, and a directory with it in its name.
func newNamed(t *testing.T, r repo) (string, secret.Value) {
	t.Helper()
	text, v := fresh()
	r.write("named-"+text, text)
	r.write("in-"+text+"/b", "x"+text)
	r.commit("three")
	return string(idOf(v)), v
}

func TestErrors(t *testing.T) {
	text, v := fresh()
	_, err := run.Run(t.Context(), run.Options{Paths: []string{"/nowhere/" + text}})
	if !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	secrettest.NoLeak(t, "error", fmt.Append(nil, err), v)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run.Run(ctx, run.Options{Paths: []string{t.TempDir()}}); !fault.Is(err, fault.Canceled) {
		t.Error(err)
	}
	if _, err := run.Run(t.Context(), run.Options{Paths: []string{"/dev/null"}, History: run.OnlyHistory}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
