package keyring_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/anthropics/anthropic-sdk-go"
	o1 "github.com/anthropics/anthropic-sdk-go/option"
	v2 "github.com/anthropics/anthropic-sdk-go/v2"
	o2 "github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/keyring"
)

// scene is a simulated provider and a file with a key of it, so that the examples run without a network.
type scene struct {
	url, host string
	dir, file string
	end       func()
}

func newScene() *scene {
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		panic(err)
	}
	sim := simulator.New(simulator.Options{})
	_, value, err := sim.CreateKey(simulator.CreateKey{Name: "example"})
	if err != nil {
		panic(err)
	}
	s := &scene{dir: dir, file: filepath.Join(dir, "key")}
	if err := os.WriteFile(s.file, []byte(value+"\n"), 0o600); err != nil {
		panic(err)
	}
	srv := httptest.NewServer(sim.Handler())
	s.url, s.host = srv.URL, strings.TrimPrefix(srv.URL, "http://")
	s.end = func() { srv.Close(); os.RemoveAll(dir) }
	return s
}

// A client of net/http calls the provider; the key comes from a file.
func Example() {
	s := newScene()
	defer s.end()

	ring, err := keyring.New(keyring.File(s.file), keyring.WithHosts(s.host))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	req, err := http.NewRequest(http.MethodGet, s.url+"/v1/models?limit=1", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("anthropic-version", "2023-06-01")
	res, err := ring.Client().Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	fmt.Println(res.StatusCode)
	// Output: 200
}

// The official Go SDK, version 1. The API key is a placeholder that the ring replaces.
func Example_sdkV1() {
	s := newScene()
	defer s.end()
	ring, err := keyring.New(keyring.File(s.file), keyring.WithHosts(s.host))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()

	client := v1.NewClient(o1.WithHTTPClient(ring.Client()), o1.WithAPIKey("keyring"), o1.WithBaseURL(s.url))
	message, err := client.Messages.New(context.Background(), v1.MessageNewParams{
		Model: "claude-haiku-5-5", MaxTokens: 64, Messages: []v1.MessageParam{v1.NewUserMessage(v1.NewTextBlock("hello"))},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(message.StopReason)
	// Output: end_turn
}

// The official Go SDK, version 2.
func Example_sdkV2() {
	s := newScene()
	defer s.end()
	ring, err := keyring.New(keyring.File(s.file), keyring.WithHosts(s.host))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()

	client := v2.NewClient(o2.WithHTTPClient(ring.Client()), o2.WithAPIKey("keyring"), o2.WithBaseURL(s.url))
	message, err := client.Messages.New(context.Background(), v2.MessageNewParams{
		Model: "claude-haiku-5-5", MaxTokens: 64, Messages: []v2.MessageParam{v2.NewUserMessage(v2.NewTextBlock("hello"))},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(message.StopReason)
	// Output: end_turn
}

// A key that is refused is read anew; a backup serves until the first file has the new one.
func ExampleFile_backup() {
	s := newScene()
	defer s.end()
	backup := filepath.Join(s.dir, "backup")
	text, err := os.ReadFile(s.file)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := os.WriteFile(backup, text, 0o600); err != nil {
		fmt.Println(err)
		return
	}
	if err := os.WriteFile(s.file, []byte("a-key-that-is-refused\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	ring, err := keyring.New(keyring.File(s.file, backup), keyring.WithHosts(s.host))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	client := v2.NewClient(o2.WithHTTPClient(ring.Client()), o2.WithAPIKey("keyring"), o2.WithBaseURL(s.url), o2.WithMaxRetries(0))
	_, err = client.Models.List(context.Background(), v2.ModelListParams{})
	fmt.Println(err)
	// Output: <nil>
}

// Behind a Keywright gateway the program has a gateway token and no key.
func ExampleGateway() {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Header.Get("X-Api-Key"), r.URL.Path)
	}))
	defer gateway.Close()
	dir, err := os.MkdirTemp("", "keyring")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Println(err)
		}
	}()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte("kwt_example\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	source, err := keyring.Gateway(gateway.URL, keyring.File(file))
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
	res, err := ring.Client().Get("https://api.anthropic.com/v1/models")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	fmt.Print(string(text))
	// Output: kwt_example /v1/models
}

// place is a source of a program's own.
type place struct{}

func (place) Fetch(context.Context) (keyring.Fetched, error) {
	return keyring.Fetched{Values: []keyring.Value{keyring.NewValue("first"), keyring.NewValue("backup")}}, nil
}

// Any place can be a source. A value prints as its fingerprint.
func ExampleSource() {
	ring, err := keyring.New(place{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	value, err := ring.Value(context.Background())
	fmt.Println(value, err)
	// Output: [value kf_a7937b64b8caa58f] <nil>
}
