package consumer

import (
	"reflect"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

func wantKind(t testing.TB, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v is %v, want %v", what, err, fault.KindOf(err), kind)
	}
}

func TestOpen(t *testing.T) {
	command := &CommandConfig{Argv: []string{"/bin/true"}}
	request := Request{URL: "http://127.0.0.1:1/"}
	env := location.Env{Name: "place", Dir: t.TempDir()}
	opened := func(v any, err error) error {
		if err == nil && reflect.ValueOf(v).IsNil() {
			t.Error("neither a result nor an error")
		}
		return err
	}
	for name, c := range map[string]struct {
		err error
		ok  bool
	}{
		"reload by command":    {opened(ReloadConfig{Command: command}.Open(env)), true},
		"reload by http":       {opened(ReloadConfig{HTTP: &ReloadHTTP{Request: request}}.Open(env)), true},
		"reload by nothing":    {opened(ReloadConfig{}.Open(env)), false},
		"reload by both":       {opened(ReloadConfig{Command: command, HTTP: &ReloadHTTP{Request: request}}.Open(env)), false},
		"reload, bad status":   {opened(ReloadConfig{HTTP: &ReloadHTTP{Request: request, Expect: 99}}.Open(env)), false},
		"confirm by command":   {opened(ConfirmConfig{Command: command}.Open(env)), true},
		"confirm by http":      {opened(ConfirmConfig{HTTP: &ConfirmHTTP{Request: request}}.Open(env)), true},
		"confirm by nothing":   {opened(ConfirmConfig{}.Open(env)), false},
		"probe by command":     {opened(ProbeConfig{Command: command}.Open(env)), true},
		"probe by http":        {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: request}}.Open(env)), true},
		"probe by log":         {opened(ProbeConfig{Log: &LogConfig{File: "app.log", Fail: "x"}}.Open(env)), true},
		"probe by nothing":     {opened(ProbeConfig{}.Open(env)), false},
		"probe by two":         {opened(ProbeConfig{Command: command, Log: &LogConfig{File: "app.log", Fail: "x"}}.Open(env)), false},
		"empty program":        {opened(ProbeConfig{Command: &CommandConfig{}}.Open(env)), false},
		"zero byte":            {opened(ProbeConfig{Command: &CommandConfig{Argv: []string{"a\x00"}}}.Open(env)), false},
		"negative timeout":     {opened(ProbeConfig{Command: &CommandConfig{Argv: []string{"a"}, Timeout: -1}}.Open(env)), false},
		"bad expression":       {opened(ProbeConfig{Log: &LogConfig{File: "app.log", Fail: "("}}.Open(env)), false},
		"no expression":        {opened(ProbeConfig{Log: &LogConfig{File: "app.log"}}.Open(env)), false},
		"no file":              {opened(ProbeConfig{Log: &LogConfig{Fail: "x"}}.Open(env)), false},
		"no address":           {opened(ProbeConfig{HTTP: &ProbeHTTP{}}.Open(env)), false},
		"no web address":       {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "file:///etc/passwd"}}}.Open(env)), false},
		"password in address":  {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "https://u:p@host.example/"}}}.Open(env)), false},
		"plain, elsewhere":     {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "http://host.example/"}}}.Open(env)), true},
		"header, elsewhere":    {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "http://host.example/", Headers: map[string]secret.Ref{"X-Auth": "env:A"}}}}.Open(env)), false},
		"header, by https":     {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "https://host.example/", Headers: map[string]secret.Ref{"X-Auth": "env:A"}}}}.Open(env)), true},
		"header, no reference": {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "https://host.example/", Headers: map[string]secret.Ref{"X-Auth": "plain"}}}}.Open(env)), false},
		"header of the wire":   {opened(ProbeConfig{HTTP: &ProbeHTTP{Request: Request{URL: "https://host.example/", Headers: map[string]secret.Ref{"host": "env:A"}}}}.Open(env)), false},
	} {
		if (c.err == nil) != c.ok || c.err != nil && !fault.Is(c.err, fault.Invalid) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}
