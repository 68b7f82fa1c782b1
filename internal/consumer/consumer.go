// Package consumer reloads, confirms and probes what reads a location, in the ways that every location can name: a
// program, an HTTP address, a log file. It never sees a key's value, never shows what a program or an address answered, and
// decides nothing. config opens what is configured and hands it to location.Location.
package consumer

import (
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// ReloadConfig says how the consumers are made to take up a value. Exactly one field is set.
type ReloadConfig struct {
	Command *CommandConfig `yaml:"command" help:"A program that makes the consumers take up the value; it may run twice for one change."`
	HTTP    *ReloadHTTP    `yaml:"http" help:"A POST request that makes the consumers take up the value; it may be sent twice for one change."`
}

// ConfirmConfig says how the running consumers are asked which value they have. Exactly one field is set.
type ConfirmConfig struct {
	Command *CommandConfig `yaml:"command" help:"A program that prints the fingerprint of each running consumer's value on a line of its own, or one JSON object with the counts running, taken, old and unknown."`
	HTTP    *ConfirmHTTP   `yaml:"http" help:"An address whose answer holds the fingerprint of the value that the consumer has."`
}

// ProbeConfig says how to see that the consumers work. Exactly one field is set.
type ProbeConfig struct {
	Command *CommandConfig `yaml:"command" help:"A program that ends with exit code 0 when the consumers work."`
	HTTP    *ProbeHTTP     `yaml:"http" help:"An address that answers as expected when the consumers work."`
	Log     *LogConfig     `yaml:"log" help:"A log file in which no line may match."`
}

// CommandConfig is a program. It sees PATH, HOME, LANG, TZ, the names under environment, KEYWRIGHT_LOCATION, and where they are known
// KEYWRIGHT_CHANGE_ID (reload) and KEYWRIGHT_FINGERPRINT (confirm).
type CommandConfig struct {
	Argv        []string      `yaml:"argv" help:"Program and its arguments, without a shell; a relative path starts at the configuration file's directory." required:"true"`
	Environment []string      `yaml:"environment" help:"Names of environment variables that the program sees besides PATH, HOME, LANG and TZ."`
	Timeout     time.Duration `yaml:"timeout" help:"How long one run may take." default:"30s"`
}

// Request is what the HTTP sorts have in common.
type Request struct {
	URL     string                `yaml:"url" help:"Address of the consumer: http or https. Redirects are not followed and proxies not used." required:"true"`
	Headers map[string]secret.Ref `yaml:"headers" help:"Request headers, each value by reference (env:, file:, cmd:); they need https, or http on this host."`
	Timeout time.Duration         `yaml:"timeout" help:"How long one exchange may take." default:"10s"`
}

// ReloadHTTP is a POST request with an empty body. The header Keywright-Change-Id names the change, so that the consumer can tell a
// repetition.
type ReloadHTTP struct {
	Request `yaml:",inline"`
	Expect  int `yaml:"expect" help:"Status that means success; without it any from 200 to 299."`
}

// ConfirmHTTP is a GET request.
type ConfirmHTTP struct {
	Request `yaml:",inline"`
	JSON    string `yaml:"json" help:"Path of the fingerprint in a JSON answer, with dots between names and list positions, such as key.fingerprint; a list counts each entry as one consumer. Without it the one fingerprint anywhere in the answer counts."`
}

// ProbeHTTP is a GET request.
type ProbeHTTP struct {
	Request  `yaml:",inline"`
	Expect   int    `yaml:"expect" help:"Status of a consumer that works." default:"200"`
	Contains string `yaml:"contains" help:"Text that the first 64 KiB of the answer must have in them."`
}

// LogConfig is a log file that is read from where the last look ended.
type LogConfig struct {
	File   string        `yaml:"file" help:"Path of the log file; a relative path starts at the configuration file's directory." required:"true"`
	Fail   string        `yaml:"fail" help:"Regular expression (RE2) of lines that show a failing consumer, such as 'authentication_error|HTTP 401'." required:"true"`
	Within time.Duration `yaml:"within" help:"How long after such a line the consumer counts as failing. When the last look is longer ago, reading starts at the end of the file." default:"10m"`
}

// Open makes the reloader and starts nothing. Errors are Invalid. Its Reload gives Indeterminate when the consumers may or may
// not have been told.
func (c ReloadConfig) Open(env location.Env) (location.Reloader, error) {
	if err := one("reload", "command or http", c.Command != nil, c.HTTP != nil); err != nil {
		return nil, err
	}
	if c.HTTP != nil {
		return newReloadHTTP(*c.HTTP, env)
	}
	return newCommand(*c.Command, env)
}

// Open makes the confirmer and asks nothing. Errors are Invalid. What it confirms is known by label: it is the consumer that says
// which value it has.
func (c ConfirmConfig) Open(env location.Env) (location.Confirmer, error) {
	if err := one("confirm", "command or http", c.Command != nil, c.HTTP != nil); err != nil {
		return nil, err
	}
	if c.HTTP != nil {
		return newConfirmHTTP(*c.HTTP, env)
	}
	return newCommand(*c.Command, env)
}

// Open makes the probe and asks nothing. Errors are Invalid. Its Probe gives Unavailable when the consumer does not work, and other
// kinds when the probe could not be made.
func (c ProbeConfig) Open(env location.Env) (location.Prober, error) {
	if err := one("probe", "command, http or log", c.Command != nil, c.HTTP != nil, c.Log != nil); err != nil {
		return nil, err
	}
	switch {
	case c.HTTP != nil:
		return newProbeHTTP(*c.HTTP, env)
	case c.Log != nil:
		return newLogProbe(*c.Log, env)
	}
	return newCommand(*c.Command, env)
}

func one(what, sorts string, set ...bool) error {
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	if n != 1 {
		return fault.New(fault.Invalid, "open "+what+": exactly one sort must be given", fault.Hint("name %s", sorts))
	}
	return nil
}
