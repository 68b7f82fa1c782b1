package vault_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/keyring"
	"github.com/keywright/keywright/keyring/vault"
)

// serve answers as Vault does to those who have the token, and gives it to those who log in by AppRole.
func serve(token string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/auth/approle/login":
			fmt.Fprintf(w, `{"auth":{"client_token":%q,"lease_duration":1800,"renewable":true}}`, token)
		case r.Header.Get("X-Vault-Token") != token:
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/v1/sys/internal/ui/mounts/secret/anthropic":
			fmt.Fprint(w, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`)
		case r.URL.Path == "/v1/secret/data/anthropic":
			fmt.Fprint(w, `{"data":{"data":{"api_key":"the-value"},"metadata":{"version":3,"created_time":"2026-11-22T10:00:00Z"}}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
}

// A field of a secret in Vault, with the token that an agent keeps in a file.
func Example() {
	server := serve("agent-token")
	defer server.Close()
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("agent-token\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	source, err := vault.New(vault.Config{Path: "secret/anthropic", Field: "api_key", Address: server.URL, TokenFile: token})
	if err != nil {
		fmt.Println(err)
		return
	}
	ring, err := keyring.New(source)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	value, err := ring.Value(context.Background())
	fmt.Println(value, err)
	// Output: [value kf_9fc410830ca6c272] <nil>
}

// AppRole: the program logs in by itself, with a role id and a file that holds the secret id.
func Example_appRole() {
	server := serve("own-token")
	defer server.Close()
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	secretID := filepath.Join(dir, "secret-id")
	if err := os.WriteFile(secretID, []byte("second-half\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	source, err := vault.New(vault.Config{
		Path: "secret/anthropic", Field: "api_key", Address: server.URL,
		Login: vault.Login{Method: vault.AppRole, Role: "billing", SecretIDFile: secretID},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ring, err := keyring.New(source)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	value, err := ring.Value(context.Background())
	fmt.Println(value, err)
	// Output: [value kf_9fc410830ca6c272] <nil>
}
