package custody_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// kmsServer is a stateful stand-in for AWS KMS: it keeps what it encrypted under a random name. The same tests run against
// a foreign implementation with the build tag real.
type kmsServer struct {
	mu      sync.Mutex
	entries map[string]kmsEntry
	refuse  string // error code of every answer
	status  int
	calls   int
	cut     bool // drop the connection
}

type kmsEntry struct {
	key     string
	plain   []byte
	context map[string]string
}

func fakeKMS(t *testing.T) *kmsServer {
	t.Helper()
	s := &kmsServer{entries: map[string]kmsEntry{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	awsEnv(t, server.URL)
	return s
}

// with changes or reads the state of s between calls.
func (s *kmsServer) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *kmsServer) count() (n int) {
	s.with(func() { n = s.calls })
	return n
}

func awsEnv(t *testing.T, url string) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
}

func (s *kmsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.cut {
		panic(http.ErrAbortHandler)
	}
	fail := func(status int, code string) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "foreign text that must not be shown"})
	}
	if s.refuse != "" {
		fail(s.status, s.refuse)
		return
	}
	var in struct {
		KeyId             string
		Plaintext         []byte
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(400, "SerializationException")
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.Encrypt":
		name := rand.Text()
		s.entries[name] = kmsEntry{in.KeyId, in.Plaintext, in.EncryptionContext}
		_ = json.NewEncoder(w).Encode(map[string]any{"CiphertextBlob": []byte(name), "KeyId": in.KeyId})
	case "TrentService.Decrypt":
		e, ok := s.entries[string(in.CiphertextBlob)]
		switch {
		case !ok || !maps.Equal(e.context, in.EncryptionContext):
			fail(400, "InvalidCiphertextException")
		case e.key != in.KeyId:
			fail(400, "IncorrectKeyException")
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"Plaintext": e.plain, "KeyId": e.key})
		}
	default:
		fail(400, "UnknownOperationException")
	}
}

func TestKMSAsksNothingBeforeFirstUse(t *testing.T) {
	s := fakeKMS(t)
	m := open(t, "aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", custody.Env{})
	if s.count() != 0 {
		t.Error("opening asked AWS")
	}
	if want := "aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"; m.ID() != want {
		t.Errorf("ID = %q", m.ID())
	}
	c, v := custody.New(m), secrettest.Fake(t)
	sealed := must(c.Seal(t.Context(), v, binding()))
	s.mu.Lock()
	for _, e := range s.entries {
		for name, value := range e.context {
			if name != "keywright-binding" || len(value) != 64 || strings.Contains(value, "prod") {
				t.Errorf("encryption context %q = %q", name, value)
			}
		}
		if len(e.plain) != 32 {
			t.Errorf("AWS saw %d bytes", len(e.plain))
		}
	}
	s.mu.Unlock()
	if got, err := c.Open(t.Context(), sealed, binding()); err != nil || !got.Equal(v) {
		t.Errorf("Open: %v, %v", got, err)
	}
	// An alias that was pointed at another key.
	s.with(func() {
		for name, e := range s.entries {
			e.key = "another"
			s.entries[name] = e
		}
	})
	if _, err := c.Open(t.Context(), sealed, binding()); !fault.Is(err, fault.Forbidden) || !strings.Contains(fault.HintOf(err), "alias") {
		t.Errorf("another KMS key: %v", err)
	}
}

func TestKMSErrors(t *testing.T) {
	s := fakeKMS(t)
	c := custody.New(open(t, "aws-kms:alias/x?region=us-east-1", custody.Env{}))
	for code, want := range map[string]struct {
		status int
		kind   fault.Kind
	}{
		"AccessDeniedException": {400, fault.Forbidden}, "DisabledException": {400, fault.Forbidden}, "KMSInvalidStateException": {400, fault.Forbidden}, "NotFoundException": {400, fault.NotFound},
		"UnrecognizedClientException": {400, fault.Unauthenticated}, "ExpiredTokenException": {400, fault.Unauthenticated}, "ThrottlingException": {400, fault.RateLimited}, "ValidationException": {400, fault.Invalid},
		"SomethingNewException": {400, fault.Unknown}, "KMSInternalException": {500, fault.Unavailable}, "DependencyTimeoutException": {503, fault.Unavailable},
	} {
		s.with(func() { s.refuse, s.status = code, want.status })
		_, err := c.Seal(t.Context(), secrettest.Fake(t), binding())
		if fault.KindOf(err) != want.kind || err == nil || fault.HintOf(err) == "" || strings.Contains(err.Error(), "foreign text") {
			t.Errorf("%s: %v (%v, %s)", code, err, fault.KindOf(err), fault.HintOf(err))
		}
	}
	s.with(func() { s.refuse, s.cut = "", true })
	if _, err := c.Seal(t.Context(), secrettest.Fake(t), binding()); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
		t.Errorf("a cut connection: %v", err)
	}
	s.with(func() { s.cut = false })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Seal(ctx, secrettest.Fake(t), binding()); !fault.Is(err, fault.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestKMSSetUp(t *testing.T) {
	s := fakeKMS(t)
	noRegion := custody.New(open(t, "aws-kms:alias/x", custody.Env{}))
	if _, err := noRegion.Seal(t.Context(), secrettest.Fake(t), binding()); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
		t.Errorf("no region: %v", err)
	}
	t.Setenv("AWS_REGION", "us-east-1")
	if _, err := noRegion.Seal(t.Context(), secrettest.Fake(t), binding()); err != nil {
		t.Errorf("set-up is not tried again: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	before := s.count()
	c := custody.New(open(t, "aws-kms:alias/x?region=us-east-1", custody.Env{}))
	if _, err := c.Seal(t.Context(), secrettest.Fake(t), binding()); !fault.Is(err, fault.Unauthenticated) || fault.HintOf(err) == "" || s.count() != before {
		t.Errorf("no identity: %v", err)
	}
	t.Setenv("AWS_PROFILE", "not-there")
	c = custody.New(open(t, "aws-kms:alias/x?region=us-east-1", custody.Env{}))
	if _, err := c.Open(t.Context(), must(custody.New(failing{id: "aws-kms:alias/x", wrapped: []byte("w")}).Seal(t.Context(), secrettest.Fake(t), binding())), binding()); !fault.Is(err, fault.Invalid) {
		t.Errorf("a broken AWS configuration: %v", err)
	}
}
