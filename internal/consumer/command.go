package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
)

// command is a program in any of the three roles. It keeps no state and is safe for concurrent use.
type command struct {
	cfg CommandConfig
	env location.Env
}

var (
	_ location.Reloader  = (*command)(nil)
	_ location.Confirmer = (*command)(nil)
	_ location.Prober    = (*command)(nil)
)

func newCommand(cfg CommandConfig, env location.Env) (*command, error) {
	switch {
	case len(cfg.Argv) == 0 || cfg.Argv[0] == "":
		return nil, fault.New(fault.Invalid, "open command: no program given", fault.Hint("argv: [./reload, ARGUMENT]"))
	case strings.ContainsRune(strings.Join(cfg.Argv, ""), 0):
		return nil, fault.New(fault.Invalid, "open command: it has a zero byte")
	case cfg.Timeout < 0:
		return nil, fault.New(fault.Invalid, "open command: the timeout is negative")
	case cfg.Timeout == 0:
		cfg.Timeout = 30 * time.Second
	}
	return &command{cfg, env}, nil
}

// Reload runs the program with KEYWRIGHT_CHANGE_ID = id.
func (c *command) Reload(ctx context.Context, id string) error {
	_, started, err := c.run(ctx, "KEYWRIGHT_CHANGE_ID="+id)
	if err != nil && started {
		return fault.Wrap(fault.Indeterminate, err, "reload by command")
	}
	return fault.In(err, "reload by command")
}

// Confirm runs the program with KEYWRIGHT_FINGERPRINT and counts what it prints.
func (c *command) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	out, started, err := c.run(ctx, "KEYWRIGHT_FINGERPRINT="+string(want.Fingerprint()))
	if fault.Is(err, fault.Unknown) && started {
		return location.Confirmation{}, fault.Wrap(fault.Unavailable, err, "confirm by command")
	}
	if err != nil {
		return location.Confirmation{}, fault.In(err, "confirm by command")
	}
	got, ok := count(out, want.Fingerprint())
	if !ok {
		return got, fault.New(fault.Invalid, "confirm by command: it printed neither fingerprints nor counts", fault.Hint(`print one fingerprint per running consumer, kf_ and 16 hex digits, or {"running": 3, "taken": 2, "old": 1}; the output is not shown because it may hold a value`))
	}
	return got, nil
}

// Probe runs the program. Any end but exit code 0 says that the consumer does not work.
func (c *command) Probe(ctx context.Context) error {
	_, started, err := c.run(ctx)
	if err != nil && started && !fault.Is(err, fault.Canceled) {
		return fault.Wrap(fault.Unavailable, err, "probe by command")
	}
	return fault.In(err, "probe by command")
}

// run runs the program. started is false when it certainly did not begin.
func (c *command) run(ctx context.Context, env ...string) (out []byte, started bool, err error) {
	if ctx.Err() != nil {
		return nil, false, fault.In(context.Cause(ctx), "run program")
	}
	if _, err := child.Resolve(c.cfg.Argv, c.env.Dir); err != nil {
		return nil, false, err
	}
	env = append(env, "KEYWRIGHT_LOCATION="+c.env.Name)
	res, err := child.Run(ctx, child.Command{Argv: c.cfg.Argv, Dir: c.env.Dir, Env: env, Pass: c.cfg.Environment, Timeout: c.cfg.Timeout})
	started = !(fault.Is(err, fault.Invalid) && res.Code == -1 && len(res.Stdout) == 0)
	return res.Stdout, started, err
}

var fingerprintRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bkf_[0-9a-f]{16}\b`) })

// whole reports whether s is a fingerprint and nothing else.
func whole(s string) bool { return len(s) == 19 && fingerprintRE().MatchString(s) }

// count reads lines of one fingerprint each, or one JSON object of counts.
func count(out []byte, want apikey.Fingerprint) (location.Confirmation, bool) {
	c := location.Confirmation{How: location.Label}
	out = bytes.TrimSpace(out)
	if bytes.HasPrefix(out, []byte("{")) {
		var n struct{ Running, Taken, Old, Unknown *int }
		if json.Unmarshal(out, &n) != nil || n.Running == nil || n.Taken == nil || *n.Running > 1e6 {
			return c, false
		}
		c.Running, c.Taken = *n.Running, *n.Taken
		if n.Old != nil {
			c.Old = *n.Old
		}
		if c.Unknown = c.Running - c.Taken - c.Old; n.Unknown != nil && *n.Unknown != c.Unknown {
			return location.Confirmation{}, false
		}
		return c, min(c.Running, c.Taken, c.Old, c.Unknown) >= 0
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if !whole(line) {
			return location.Confirmation{}, false
		}
		add(&c, line, want)
	}
	return c, c.Running > 0
}

// add counts one running consumer that says it has the value with this fingerprint.
func add(c *location.Confirmation, has string, want apikey.Fingerprint) {
	c.Running++
	if want != "" && has == string(want) {
		c.Taken++
	} else {
		c.Old++
	}
}
