package awssecrets_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource/awssecrets"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func awsEnv(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

// service keeps the text of secrets by name and label; the same reader runs against a foreign implementation with the build tag real.
type service struct {
	mu     sync.Mutex
	texts  map[string]string
	code   string
	status int
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(status int, code string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "foreign text that must not be shown"})
	}
	var in struct{ SecretId, VersionStage string }
	if s.code != "" {
		fail(s.status, s.code)
		return
	}
	if r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || json.NewDecoder(r.Body).Decode(&in) != nil {
		fail(400, "ValidationException")
		return
	}
	text, ok := s.texts[in.SecretId+" "+in.VersionStage]
	if !ok {
		fail(400, "ResourceNotFoundException")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Name": in.SecretId, "SecretString": text})
}

func TestRead(t *testing.T) {
	awsEnv(t)
	v, w := secrettest.Fake(t), secrettest.Fake(t)
	const arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:app/key-AbCdEf"
	s := &service{texts: map[string]string{"plain AWSCURRENT": v.RevealString(), arn + " AWSCURRENT": `{"api_key":"` + w.RevealString() + `","x":1}`, "plain AWSPENDING": w.RevealString() + "\n"}}
	h := httptest.NewServer(s)
	defer h.Close()
	read := func(c awssecrets.Config) (string, error) {
		t.Helper()
		c.Endpoint = h.URL
		r, err := awssecrets.New(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Read(t.Context())
		return string(got.Value.Fingerprint()), err
	}
	for _, c := range []struct {
		c    awssecrets.Config
		want string
		kind fault.Kind
	}{
		{awssecrets.Config{Secret: "plain", Region: "eu-central-1"}, string(v.Fingerprint()), 0}, {awssecrets.Config{Secret: arn, Field: "api_key"}, string(w.Fingerprint()), 0},
		{awssecrets.Config{Secret: "plain", Region: "eu-central-1", Stage: "AWSPENDING"}, string(w.Fingerprint()), 0}, {awssecrets.Config{Secret: "plain"}, "", fault.Invalid},
		{awssecrets.Config{Secret: arn, Field: "none"}, "", fault.NotFound}, {awssecrets.Config{Secret: "none", Region: "eu-central-1"}, "", fault.NotFound},
	} {
		got, err := read(c.c)
		if got != c.want || c.kind == 0 && err != nil || c.kind != 0 && !fault.Is(err, c.kind) {
			t.Errorf("%+v: %s, %v", c.c, got, err)
		}
	}
	for code, kind := range map[string]fault.Kind{"AccessDeniedException": fault.Forbidden, "ExpiredTokenException": fault.Unauthenticated, "ThrottlingException": fault.RateLimited, "InternalServiceError": fault.Unavailable} {
		s.mu.Lock()
		if s.code, s.status = code, 400; kind == fault.Unavailable {
			s.status = 500
		}
		s.mu.Unlock()
		if _, err := read(awssecrets.Config{Secret: "plain", Region: "eu-central-1"}); !fault.Is(err, kind) || strings.Contains(err.Error(), "foreign") {
			t.Errorf("%s: %v", code, err)
		}
	}
	h.Close()
	if _, err := read(awssecrets.Config{Secret: "plain", Region: "eu-central-1"}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody answers: %v", err)
	}
	for _, c := range []awssecrets.Config{{}, {Secret: "a", Endpoint: "http://aws.example"}} {
		if _, err := awssecrets.New(c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
