package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
)

// maxValue bounds a value in a file.
const maxValue = 16 << 10

// File reads each value from a file of its own: the first is used, the others are backups. Files that group or others may read are
// refused. One trailing line end is dropped.
func File(path string, backups ...string) Source { return files(append([]string{path}, backups...)) }

type files []string

var _ Source = files(nil)

func (f files) Fetch(context.Context) (Fetched, error) {
	var got Fetched
	for i, path := range f {
		v, err := readFile(path)
		if err != nil {
			if i > 0 {
				continue // a backup that is missing is not worth the outage of the first
			}
			return Fetched{}, err
		}
		got.Values = append(got.Values, v)
	}
	return got, nil
}

func readFile(path string) (Value, error) {
	f, err := os.Open(path)
	if err != nil {
		return Value{}, fmt.Errorf("keyring: read value: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return Value{}, fmt.Errorf("keyring: read value: %w", err)
	case !info.Mode().IsRegular():
		return Value{}, fmt.Errorf("keyring: read %q: not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return Value{}, fmt.Errorf("keyring: read %q: other users may read it (mode %04o)", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	defer clear(b)
	if err != nil {
		return Value{}, fmt.Errorf("keyring: read value: %w", err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) > maxValue || !visible(string(b)) {
		return Value{}, fmt.Errorf("keyring: read %q: it holds no value, or more than one", path)
	}
	return NewValue(string(b)), nil
}

// visible reports whether s can stand in a header as one word.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// Env reads a variable of the environment. It needs WithDevelopment.
func Env(variable string) Source { return env(variable) }

type env string

var _ Source = env("")

func (e env) Fetch(context.Context) (Fetched, error) {
	text := os.Getenv(string(e))
	if !visible(text) {
		return Fetched{}, fmt.Errorf("keyring: the variable %s holds no value", string(e))
	}
	return Fetched{Values: []Value{NewValue(text)}}, nil
}

// Gateway sends calls to a Keywright gateway, with a gateway token that another source gives: File of what "keywright token issue" wrote.
// A provider's key is never involved. The address is https, or http to loopback.
func Gateway(baseURL string, token Source) (Source, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, errors.New("keyring: the gateway's address must be https://host, or http to loopback")
	}
	if _, ok := token.(env); ok {
		return nil, errors.New("keyring: the gateway's token must come from a file")
	}
	return gateway{strings.TrimSuffix(baseURL, "/"), token}, nil
}

type gateway struct {
	base  string
	token Source
}

var _ Source = gateway{}

func (g gateway) Fetch(ctx context.Context) (Fetched, error) {
	got, err := g.token.Fetch(ctx)
	got.BaseURL = g.base
	return got, err
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
