package awssecretsmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", // must never be used
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	for _, name := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// peer is a Secrets Manager, real or fake, at an endpoint.
type peer struct {
	t        testing.TB
	endpoint string
}

// do makes one call of the service without our client, and gives its reply.
func (p peer) do(action string, in map[string]any) map[string]any {
	p.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, p.endpoint, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "secretsmanager."+action)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: status %d, %v", action, resp.StatusCode, err)
	}
	var out map[string]any
	if err := json.Unmarshal(reply, &out); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// create makes a secret with this text, or without any when it is empty.
func (p peer) create(name, text string) {
	p.t.Helper()
	in := map[string]any{"Name": name, "ClientRequestToken": "11111111-0000-4000-8000-000000000000"}
	if text != "" {
		in["SecretString"] = text
	}
	p.do("CreateSecret", in)
}

// text gives what the version with the label holds.
func (p peer) text(name, label string) string {
	p.t.Helper()
	s, _ := p.do("GetSecretValue", map[string]any{"SecretId": name, "VersionStage": label})["SecretString"].(string)
	return s
}

func (p peer) labels(name, label string) string {
	p.t.Helper()
	all, _ := p.do("DescribeSecret", map[string]any{"SecretId": name})["VersionIdsToStages"].(map[string]any)
	for id, labels := range all {
		if slices.Contains(labels.([]any), any(label)) {
			return id
		}
	}
	return ""
}

// overwrite changes the secret as somebody else would.
func (p peer) overwrite(name, text string) {
	p.t.Helper()
	id := foreignID()
	p.do("PutSecretValue", map[string]any{"SecretId": name, "SecretString": text, "ClientRequestToken": id, "VersionStages": []string{"OTHER"}})
	if from := p.labels(name, current); from != id {
		p.do("UpdateSecretVersionStage", map[string]any{"SecretId": name, "VersionStage": current, "RemoveFromVersionId": from, "MoveToVersionId": id})
	}
}

func (p peer) open(name, field, style string) location.Driver {
	p.t.Helper()
	d, err := Open(Config{Secret: name, Field: field, Region: "us-east-1", Endpoint: p.endpoint, Style: style}, location.Env{Name: "aws"})
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func quotedIn(document string, v secret.Value) string {
	return fmt.Sprintf(document, v.RevealString())
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%v (hint: %s)", err, fault.HintOf(err))
		}
		return v
	}
}

// behaviour runs against the fake here and against a real peer in the file with the build tag.
func behaviour(t *testing.T, start func(*testing.T) peer) {
	const document = "{\n  \"region\" : \"eu\\u002d1\",\n  \"api_key\" : \"%s\",\n  \"n\": [1, 2.50]\n}\n"
	ctx := context.Background()

	t.Run("stage, promote and restore keep neighbours and labels", func(t *testing.T) {
		p := start(t)
		old, next := secrettest.Fake(t), secrettest.Fake(t)
		p.create("app", quotedIn(document, old))
		d := p.open("app", "api_key", "staged").(*staged)

		before := must[location.Holding](t)(d.Inspect(ctx))
		if !before.Holds(old.Digest()) || before.How != location.ReadBack || before.Pending != nil {
			t.Fatalf("holding %+v", before)
		}
		receipt := must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(before)))
		again := must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(before)))
		if receipt.Facts[factStaged] != again.Facts[factStaged] {
			t.Errorf("staging twice made two versions: %v, %v", receipt, again)
		}
		during := must[location.Holding](t)(d.Inspect(ctx))
		if !during.Holds(old.Digest()) || during.Pending == nil || during.Pending.Digest != next.Digest() || !during.Pending.Ours {
			t.Fatalf("staged holding %+v pending %+v", during, during.Pending)
		}
		promoted := must[location.Receipt](t)(d.Promote(ctx, receipt))
		if id := p.labels("app", "AWSPENDING"); id != "" {
			t.Errorf("AWSPENDING is left on %s", id)
		}
		twice := must[location.Receipt](t)(d.Promote(ctx, receipt))
		if promoted.Revision != twice.Revision || twice.Replaced != before.Revision {
			t.Errorf("promoting twice: %+v, %+v", promoted, twice)
		}
		if got := p.text("app", "AWSCURRENT"); got != quotedIn(document, next) {
			t.Error("current text is not the old one with the new value")
		}
		if got := p.text("app", "AWSPREVIOUS"); got != quotedIn(document, old) {
			t.Error("AWSPREVIOUS does not reach the previous value")
		}
		if id := p.labels("app", "AWSPENDING"); id != "" {
			t.Errorf("AWSPENDING is left on %s", id)
		}
		restored := must[location.Receipt](t)(d.Restore(ctx, promoted))
		if restored.Revision != before.Revision || p.text("app", "AWSCURRENT") != quotedIn(document, old) {
			t.Errorf("restored %+v", restored)
		}
		must[location.Receipt](t)(d.Restore(ctx, promoted))

		// The same value staged again from the same version is the same version of the secret, without its labels.
		receipt = must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(must[location.Holding](t)(d.Inspect(ctx)))))
		promoted = must[location.Receipt](t)(d.Promote(ctx, receipt))
		if h := must[location.Holding](t)(d.Inspect(ctx)); !h.Holds(next.Digest()) || h.Revision != promoted.Revision {
			t.Errorf("second rotation: %+v", h)
		}
	})

	t.Run("put into whole string, member and empty secret", func(t *testing.T) {
		for name, c := range map[string]struct{ field, before, after string }{
			"whole":     {"", "not a key yet", "%s"},
			"empty":     {"", "", "%s"},
			"new":       {"api_key", "", `{"api_key":"%s"}`},
			"added":     {"api_key", `{"a": 1}`, `{"a": 1,"api_key": "%s"}`},
			"lines":     {"api_key", "{\n  \"a\": 1\n}\n", "{\n  \"a\": 1,\n  \"api_key\": \"%s\"\n}\n"},
			"null":      {"api_key", `{"api_key": null}`, `{"api_key": "%s"}`},
			"escaped":   {"api_key", `{"api\u005fkey":"x","b":"\/"}`, `{"api\u005fkey":"%s","b":"\/"}`},
			"nothing":   {"api_key", `{ }`, `{"api_key":"%s" }`},
			"of a sort": {"api/key", `{"x":{"api/key":"inner"}}`, `{"x":{"api/key":"inner"},"api/key":"%s"}`},
		} {
			t.Run(name, func(t *testing.T) {
				p := start(t)
				p.create("app", c.before)
				d := p.open("app", c.field, "direct")
				if _, ok := d.(location.Stager); ok {
					t.Error("style direct stages")
				}
				h := must[location.Holding](t)(d.Inspect(ctx))
				v := secrettest.Fake(t)
				r := must[location.Receipt](t)(d.Put(ctx, v, location.ExpectHolding(h)))
				if got := p.text("app", "AWSCURRENT"); got != quotedIn(c.after, v) {
					t.Errorf("text does not have the form %s", c.after)
				}
				after := must[location.Holding](t)(d.Inspect(ctx))
				if !after.Holds(v.Digest()) || after.Revision != r.Revision || r.Replaced != h.Revision {
					t.Errorf("holding %+v, receipt %+v", after, r)
				}
				if got := must[secret.Value](t)(d.(location.Reader).Read(ctx)); !got.Equal(v) {
					t.Error("read gives another value")
				}
				if id := p.labels("app", writing); id != "" {
					t.Errorf("the label of the write is left on %s", id)
				}
				must[location.Receipt](t)(d.Put(ctx, v, location.ExpectHolding(h)))
				must[location.Receipt](t)(d.Put(ctx, secrettest.Fake(t), location.Expect{}))
			})
		}
	})

	t.Run("foreign changes are conflicts", func(t *testing.T) {
		p := start(t)
		old, next, foreign := secrettest.Fake(t), secrettest.Fake(t), secrettest.Fake(t)
		p.create("app", quotedIn(document, old))
		d := p.open("app", "api_key", "staged").(*staged)
		before := must[location.Holding](t)(d.Inspect(ctx))
		receipt := must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(before)))
		p.overwrite("app", quotedIn(document, foreign))
		_, err := d.Promote(ctx, receipt)
		wantKind(t, err, fault.Conflict)
		_, err = d.Stage(ctx, next, location.ExpectHolding(before))
		wantKind(t, err, fault.Conflict)
		_, err = d.Put(ctx, next, location.ExpectHolding(before))
		wantKind(t, err, fault.Conflict)
		if p.text("app", "AWSCURRENT") != quotedIn(document, foreign) {
			t.Error("a refused write changed the secret")
		}
		// Staged anew from what is there now, it works; then somebody else writes, and the label cannot go back.
		receipt = must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(must[location.Holding](t)(d.Inspect(ctx)))))
		promoted := must[location.Receipt](t)(d.Promote(ctx, receipt))
		p.overwrite("app", quotedIn(document, foreign))
		_, err = d.Restore(ctx, promoted)
		wantKind(t, err, fault.Conflict)
	})

	t.Run("unstage takes back only ours", func(t *testing.T) {
		p := start(t)
		old, next := secrettest.Fake(t), secrettest.Fake(t)
		p.create("app", old.RevealString())
		d := p.open("app", "", "staged").(*staged)
		h := must[location.Holding](t)(d.Inspect(ctx))
		r := must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(h)))
		if err := d.Unstage(ctx, location.Receipt{Facts: map[string]string{factStaged: "another"}}); err != nil || p.labels("app", pending) == "" {
			t.Fatalf("unstage of another version: %v", err)
		}
		for _, receipt := range []location.Receipt{r, r, {}} {
			if err := d.Unstage(ctx, receipt); err != nil {
				t.Fatal(err)
			}
		}
		if id := p.labels("app", pending); id != "" {
			t.Errorf("still pending: %s", id)
		}
		must[location.Receipt](t)(d.Stage(ctx, next, location.ExpectHolding(h)))
		if err := d.Unstage(ctx, location.Receipt{}); err != nil || p.labels("app", pending) != "" {
			t.Errorf("unstage without a receipt: %v", err)
		}
		p.do("PutSecretValue", map[string]any{"SecretId": "app", "SecretString": "other", "ClientRequestToken": "33333333-0000-4000-8000-000000000000", "VersionStages": []string{pending}})
		if err := d.Unstage(ctx, location.Receipt{}); err != nil || p.labels("app", pending) == "" {
			t.Errorf("unstage of a foreign version: %v", err)
		}
		_, err := d.Stage(ctx, next, location.ExpectHolding(h))
		wantKind(t, err, fault.Conflict)
		if h := must[location.Holding](t)(d.Inspect(ctx)); h.Pending == nil || h.Pending.Ours {
			t.Errorf("foreign pending: %+v", h.Pending)
		}
		if errs := d.Check(ctx); len(errs) != 1 || !fault.Is(errs[0], fault.Conflict) {
			t.Errorf("check: %v", errs)
		}
		// An emergency puts all the same and leaves the foreign label alone.
		must[location.Receipt](t)(d.Put(ctx, next, location.Expect{}))
		if p.text("app", pending) != "other" || p.text("app", current) != next.RevealString() {
			t.Error("put beside a foreign pending version")
		}
	})

	t.Run("remove", func(t *testing.T) {
		p := start(t)
		first, second, third := secrettest.Fake(t), secrettest.Fake(t), secrettest.Fake(t)
		p.create("app", quotedIn(document, first))
		d := p.open("app", "api_key", "staged").(*staged)
		must[location.Receipt](t)(d.Put(ctx, second, location.Expect{}))
		if err := d.Remove(ctx, first.Digest()); err != nil || p.text("app", previous) != quotedIn(document, first) {
			t.Errorf("remove of a version that is not ours: %v", err)
		}
		must[location.Receipt](t)(d.Put(ctx, third, location.Expect{}))
		for _, digest := range []apikey.Digest{second.Digest(), second.Digest(), third.Digest(), {}} {
			if err := d.Remove(ctx, digest); err != nil {
				t.Fatal(err)
			}
		}
		if id := p.labels("app", previous); id != "" {
			t.Errorf("AWSPREVIOUS is left on %s", id)
		}
		if h := must[location.Holding](t)(d.Inspect(ctx)); !h.Holds(third.Digest()) {
			t.Error("remove touched the current version")
		}
	})

	t.Run("check writes nothing", func(t *testing.T) {
		p := start(t)
		v := secrettest.Fake(t)
		p.create("app", v.RevealString())
		before := p.do("DescribeSecret", map[string]any{"SecretId": "app"})
		if errs := p.open("app", "", "staged").(location.Checker).Check(ctx); len(errs) != 0 {
			t.Error(errs)
		}
		if after := p.do("DescribeSecret", map[string]any{"SecretId": "app"}); fmt.Sprint(after["VersionIdsToStages"]) != fmt.Sprint(before["VersionIdsToStages"]) {
			t.Errorf("before %v, after %v", before, after)
		}
		if errs := p.open("absent", "", "staged").(location.Checker).Check(ctx); len(errs) != 1 || !fault.Is(errs[0], fault.NotFound) || fault.HintOf(errs[0]) == "" {
			t.Errorf("absent: %v", errs)
		}
	})

	t.Run("refused secrets", func(t *testing.T) {
		v := secrettest.Fake(t)
		for name, c := range map[string]struct {
			field string
			in    map[string]any
			kind  fault.Kind
		}{
			"binary":    {"", map[string]any{"SecretBinary": "AAECAw=="}, fault.Unsupported},
			"no JSON":   {"api_key", map[string]any{"SecretString": v.RevealString()}, fault.Invalid},
			"no object": {"api_key", map[string]any{"SecretString": `["api_key"]`}, fault.Invalid},
			"twice":     {"api_key", map[string]any{"SecretString": quotedIn(`{"api_key":"%s","api\u005fkey":"b"}`, v)}, fault.Invalid},
			"nested":    {"api_key", map[string]any{"SecretString": quotedIn(`{"api_key":{"v":"%s"}}`, v)}, fault.Invalid},
			"number":    {"api_key", map[string]any{"SecretString": `{"api_key":17}`}, fault.Invalid},
			"half":      {"api_key", map[string]any{"SecretString": `{"api_key":"\ud800"}`}, fault.Invalid},
		} {
			t.Run(name, func(t *testing.T) {
				p := start(t)
				c.in["Name"] = "app"
				p.do("CreateSecret", c.in)
				d := p.open("app", c.field, "staged")
				_, err := d.Inspect(ctx)
				wantKind(t, err, c.kind)
				secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), v)
				_, err = d.Put(ctx, secrettest.Fake(t), location.Expect{})
				wantKind(t, err, c.kind)
			})
		}
		t.Run("deleted", func(t *testing.T) {
			p := start(t)
			p.create("app", "x")
			p.do("DeleteSecret", map[string]any{"SecretId": "app"})
			_, err := p.open("app", "", "staged").Inspect(ctx)
			wantKind(t, err, fault.Conflict)
			if !strings.Contains(fault.HintOf(err), "restore-secret") {
				t.Errorf("hint %q", fault.HintOf(err))
			}
		})
		t.Run("absent", func(t *testing.T) {
			d := start(t).open("app", "", "staged")
			if h := must[location.Holding](t)(d.Inspect(ctx)); h.Present {
				t.Error("present")
			}
			_, err := d.Put(ctx, v, location.Expect{})
			wantKind(t, err, fault.NotFound)
		})
	})
}

func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("error %v is %v, want %v", err, fault.KindOf(err), kind)
	}
}

func TestBehaviour(t *testing.T) {
	behaviour(t, func(t *testing.T) peer { return peer{t, newFake(t).URL} })
}

func TestRotationOfAWS(t *testing.T) {
	f := newFake(t)
	p := peer{t, f.URL}
	p.create("app", "x")
	p.do("RotateSecret", map[string]any{"SecretId": "app"})
	d := p.open("app", "", "staged").(*staged)
	errs := d.Check(t.Context())
	if len(errs) != 1 || !strings.Contains(fault.HintOf(errs[0]), "cancel-rotate-secret") {
		t.Errorf("check: %v", errs)
	}
	_, err := d.Stage(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.Conflict)
}

func TestCheckNamesMissingRights(t *testing.T) {
	f := newFake(t)
	peer{t, f.URL}.create("app", "x")
	denied := trouble{status: 400, code: "AccessDeniedException"}
	f.fail("PutSecretValue", denied)
	f.fail("UpdateSecretVersionStage", denied)
	errs := peer{t, f.URL}.open("app", "", "staged").(location.Checker).Check(t.Context())
	if len(errs) != 2 {
		t.Fatalf("%d errors: %v", len(errs), errs)
	}
	for i, action := range []string{"secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"} {
		if !fault.Is(errs[i], fault.Forbidden) || !strings.Contains(fault.HintOf(errs[i]), action+" on app") {
			t.Errorf("error %v, hint %q", errs[i], fault.HintOf(errs[i]))
		}
	}
}

// TestRace lets somebody else move AWSCURRENT between our two writing calls.
func TestRace(t *testing.T) {
	for _, checked := range []bool{true, false} {
		f := newFake(t)
		p := peer{t, f.URL}
		p.create("app", `{"k":"old","n":1}`)
		d := p.open("app", "k", "direct")
		expect := location.Expect{}
		if checked {
			expect = location.ExpectHolding(must[location.Holding](t)(d.Inspect(t.Context())))
		}
		f.fail("UpdateSecretVersionStage", trouble{before: func() { p.overwrite("app", `{"k":"foreign","n":2}`) }})
		v := secrettest.Fake(t)
		_, err := d.Put(t.Context(), v, expect)
		if checked {
			wantKind(t, err, fault.Conflict)
			continue
		}
		if err != nil || p.text("app", current) != quotedIn(`{"k":"%s","n":2}`, v) {
			t.Errorf("put of an emergency: %v", err)
		}
	}
}

func TestFailures(t *testing.T) {
	type row struct {
		name        string
		trouble     trouble
		read, write fault.Kind
	}
	rows := []row{
		{"throttled", trouble{status: 400, code: "ThrottlingException", retryAfter: "7"}, fault.RateLimited, fault.RateLimited},
		{"denied", trouble{status: 400, code: "AccessDeniedException"}, fault.Forbidden, fault.Forbidden},
		{"decryption", trouble{status: 400, code: "DecryptionFailure"}, fault.Forbidden, fault.Forbidden},
		{"expired session", trouble{status: 400, code: "ExpiredTokenException"}, fault.Unauthenticated, fault.Unauthenticated},
		{"signature", trouble{status: 400, code: "InvalidSignatureException"}, fault.Unauthenticated, fault.Unauthenticated},
		{"unknown client", trouble{status: 400, code: "UnrecognizedClientException"}, fault.Unauthenticated, fault.Unauthenticated},
		{"internal", trouble{status: 500, code: "InternalServiceError"}, fault.Unavailable, fault.Indeterminate},
		{"internal, applied", trouble{status: 500, code: "InternalServiceError", applied: true}, fault.Unavailable, fault.Indeterminate},
		{"unavailable", trouble{status: 503, code: "ServiceUnavailable"}, fault.Unavailable, fault.Unavailable},
		{"gateway", trouble{status: 504, body: "<html>"}, fault.Unavailable, fault.Indeterminate},
		{"bare 401", trouble{status: 401, body: "no"}, fault.Unauthenticated, fault.Unauthenticated},
		{"bare 403", trouble{status: 403, body: "no"}, fault.Forbidden, fault.Forbidden},
		{"bare 429", trouble{status: 429, body: "no", retryAfter: "7"}, fault.RateLimited, fault.RateLimited},
		{"redirect", trouble{status: 302, body: ""}, fault.Invalid, fault.Invalid},
		{"garbage", trouble{status: 200, body: "][", applied: true}, fault.Unavailable, fault.Indeterminate},
		{"cut", trouble{cut: true}, fault.Unavailable, fault.Indeterminate},
		{"cut, applied", trouble{cut: true, applied: true}, fault.Unavailable, fault.Indeterminate},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFake(t)
			p := peer{t, f.URL}
			old, next := secrettest.Fake(t), secrettest.Fake(t)
			p.create("app", quotedIn(`{"k":"%s","n":1}`, old))
			d := p.open("app", "k", "staged").(*staged)
			h := must[location.Holding](t)(d.Inspect(t.Context()))
			for _, action := range []string{"DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"} {
				calls := f.count(action)
				f.fail(action, r.trouble)
				_, err := d.Put(t.Context(), next, location.ExpectHolding(h))
				want := r.read
				if strings.HasPrefix(action, "Put") || strings.HasPrefix(action, "Update") {
					want = r.write
				}
				if action == "UpdateSecretVersionStage" && r.write == fault.Invalid {
					want = fault.Conflict // how the service says that a label is elsewhere
				}
				wantKind(t, err, want)
				if f.count(action) != calls+1 {
					t.Errorf("%s was repeated %d times", action, f.count(action)-calls-1)
				}
				text := fmt.Sprintf("%v %+v %#v %s", err, err, err, fault.HintOf(err))
				secrettest.NoLeak(t, action, []byte(text), old, next)
				if r.trouble.retryAfter != "" && fault.RetryAfterOf(err) != 7*time.Second {
					t.Errorf("retry after %v", fault.RetryAfterOf(err))
				}
			}
			// Whatever became of the attempts, the next one settles it, and the neighbours and the previous value are there.
			must[location.Receipt](t)(d.Put(t.Context(), next, location.ExpectHolding(h)))
			if p.text("app", current) != quotedIn(`{"k":"%s","n":1}`, next) || p.text("app", previous) != quotedIn(`{"k":"%s","n":1}`, old) {
				t.Error("wrong text after the failures")
			}
		})
	}
}

func TestUnreachableAndCancelled(t *testing.T) {
	f := newFake(t)
	d := peer{t, f.URL}.open("app", "", "staged").(*staged)
	f.Close()
	_, err := d.Put(t.Context(), secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.Unavailable)
	// A write that never left is no matter of doubt.
	err = d.client.move(t.Context(), current, "a", "b")
	wantKind(t, err, fault.Unavailable)
	if !strings.Contains(err.Error(), "cannot be reached") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Inspect(ctx)
	wantKind(t, err, fault.Canceled)

	// A change whose context ends while the reply is awaited may have been applied.
	f = newFake(t)
	p := peer{t, f.URL}
	p.create("app", "x")
	ctx, cancel = context.WithCancel(t.Context())
	f.fail("PutSecretValue", trouble{before: cancel, cut: true})
	_, err = p.open("app", "", "staged").Put(ctx, secrettest.Fake(t), location.Expect{})
	wantKind(t, err, fault.Indeterminate)
}

func TestNoAccessKey(t *testing.T) {
	f := newFake(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := peer{t, f.URL}.open("app", "", "staged").Inspect(t.Context())
	wantKind(t, err, fault.Unauthenticated)
	d, err := Open(Config{Secret: "app", Region: "us-east-1", Profile: "absent", Endpoint: f.URL}, location.Env{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Inspect(t.Context())
	wantKind(t, err, fault.Invalid)
	if !strings.Contains(err.Error(), `"absent"`) || len(f.calls) != 0 {
		t.Errorf("%v after %d calls", err, len(f.calls))
	}
}

// closedEarly is a request body as the SDK leaves it when the reply comes before the transport has seen the body's end.
type closedEarly struct{ io.Reader }

func (closedEarly) Close() error                     { return nil }
func (closedEarly) WriteTo(io.Writer) (int64, error) { return 0, io.EOF }

func TestBodyClosedEarly(t *testing.T) {
	const text = "a request"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != text {
			t.Errorf("body %q, %v", b, err)
		}
		fmt.Fprint(w, "a reply")
	}))
	defer s.Close()
	w := newWire()
	for range 20 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, closedEarly{strings.NewReader(text)})
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(text))
		resp, err := w.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "a reply" {
			t.Fatalf("reply %q, %v", b, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndpointOfTheEnvironment makes sure that AWS_ENDPOINT_URL, which TestMain sets, cannot lead values elsewhere.
func TestEndpointOfTheEnvironment(t *testing.T) {
	for _, endpoint := range []string{"", "https://vpce.example"} {
		d := must[location.Driver](t)(Open(Config{Secret: "app", Region: "eu-west-1", Endpoint: endpoint}, location.Env{})).(*staged)
		sdk, err := d.client.aws.SecretsManager(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := aws.ToString(sdk.Options().BaseEndpoint); got != endpoint {
			t.Errorf("endpoint %q, want %q", got, endpoint)
		}
	}
}

func TestOpen(t *testing.T) {
	const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:team/app-AbC123"
	for name, c := range map[string]struct {
		cfg Config
		ok  bool
	}{
		"name":            {Config{Secret: "team/app", Region: "eu-west-1"}, true},
		"arn":             {Config{Secret: arn}, true},
		"no region":       {Config{Secret: "team/app"}, false},
		"other region":    {Config{Secret: arn, Region: "us-east-1"}, false},
		"cut arn":         {Config{Secret: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app"}, false},
		"blank in name":   {Config{Secret: "team app", Region: "eu-west-1"}, false},
		"control":         {Config{Secret: "app", Region: "eu-west-1", Field: "a\nb"}, false},
		"style":           {Config{Secret: "app", Region: "eu-west-1", Style: "fast"}, false},
		"https":           {Config{Secret: "app", Region: "eu-west-1", Endpoint: "https://vpce.example"}, true},
		"http elsewhere":  {Config{Secret: "app", Region: "eu-west-1", Endpoint: "http://192.0.2.1"}, false},
		"http here":       {Config{Secret: "app", Region: "eu-west-1", Endpoint: "http://[::1]:5000"}, true},
		"user in address": {Config{Secret: "app", Region: "eu-west-1", Endpoint: "https://u:p@vpce.example"}, false},
	} {
		_, err := Open(c.cfg, location.Env{})
		if (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	open := func(c Config) string {
		return must[location.Driver](t)(Open(c, location.Env{})).(location.Addresser).Address()
	}
	one := open(Config{Secret: arn, Field: "a"})
	if two := open(Config{Secret: "team/app", Region: "eu-west-1", Field: "b", Style: "direct"}); one != two {
		t.Errorf("two addresses of one secret: %q, %q", one, two)
	}
	if other := open(Config{Secret: "team/app", Region: "eu-west-2"}); one == other {
		t.Errorf("one address of two secrets: %q", one)
	}
}
