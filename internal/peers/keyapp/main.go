// Command keyapp is the application that tests run in a container: it has a key in its environment, works with it until
// it is told to stop, and shows which key it has without showing the key.
//
// It prints one line, "keyapp: key kf_..." or "keyapp: no key", to standard output. The fingerprint is computed here and
// not by the packages under test, so that a mistake there is seen. With PORT in its environment it also serves, on
// 127.0.0.1:PORT, GET /fingerprint (the fingerprint, or status 503 without a key) and GET /healthz (status 200 with a key,
// else 503). It ends with status 0 on SIGTERM or SIGINT. Only ImportImage of internal/peers builds it.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "keyapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	fingerprint := fingerprintOf(os.Getenv("ANTHROPIC_API_KEY"))
	if fingerprint == "" {
		fmt.Println("keyapp: no key")
	} else {
		fmt.Println("keyapp: key", fingerprint)
	}
	port := os.Getenv("PORT")
	if port == "" {
		<-ctx.Done()
		return nil
	}
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", port), Handler: handler(fingerprint), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(fingerprint string) http.Handler {
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if fingerprint == "" {
				http.Error(w, "no key", http.StatusServiceUnavailable)
				return
			}
			_, _ = fmt.Fprintln(w, text)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", answer("ok"))
	mux.HandleFunc("GET /fingerprint", answer(fingerprint))
	return mux
}

// fingerprintOf returns "kf_" and the first 16 hex digits of the value's SHA-256, and "" for the empty value.
func fingerprintOf(value string) string {
	if value == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(value))
	return "kf_" + hex.EncodeToString(sum[:8])
}
